/** Each transition of RFC 9293, section 3.10, that a guest can provoke, segment by segment. Numbers count from the first ones. */

import assert from "node:assert/strict";
import { suite, test } from "node:test";
import { Errno } from "@lodge/linux";
import { OURS, Script, THEIRS } from "../../../testing/script.ts";
import { TcpFlag } from "../../packet/tcp.ts";

const { FIN, SYN, RST, ACK, PSH } = TcpFlag;

test("a guest that asks whether we are still there is told so, with a byte of old data or without (RFC 9293, 3.8.4)", () => {
  const script = new Script().establish();
  for (let hour = 0; hour < 5; hour++) {
    script.clock.pass(7_200_000);
    script.guest(0, 1, ACK);
    assert.deepEqual(script.said(), ["ACK 1:1"]);
    script.guest(0, 1, ACK, "x");
    assert.deepEqual(script.said(), ["ACK 1:1"]);
  }
  assert.deepEqual([script.connection.state, script.far.received.length], ["ESTABLISHED", 0]);
});

suite("opening", () => {
  test("the guest's SYN is answered when the far side is connected, and not before", () => {
    const script = new Script();
    assert.deepEqual(script.said(), []);
    script.connection.opened();
    const [answer] = script.heard();
    assert.deepEqual([answer?.flags, answer?.sequence, answer?.acknowledgement, answer?.mss], ["SYN ACK", 0, 1, 1460]);
    assert.equal(script.connection.state, "SYN_RECEIVED");
    script.guest(1, 1, ACK);
    assert.equal(script.connection.state, "ESTABLISHED");
    assert.deepEqual(script.said(), []);
  });

  test("a far side that cannot be connected is told by its errno, and nothing is left", () => {
    const script = new Script();
    script.connection.failed(Errno.ECONNREFUSED);
    assert.deepEqual([script.errno, script.gone, script.clock.timers], [Errno.ECONNREFUSED, true, 0]);
  });

  test("a guest that gives up while the far side is being connected ends it", () => {
    const script = new Script();
    script.guest(7, 0, RST);
    assert.equal(script.gone, false);
    script.guest(1, 0, RST);
    assert.deepEqual([script.gone, script.far.log], [true, ["reset"]]);
  });

  test("an answer that is lost is sent again, further and further apart, and given up", () => {
    const script = new Script();
    script.connection.opened();
    script.guest(0, 0, SYN);
    assert.deepEqual(script.said(), ["SYN ACK 0:1", "SYN ACK 0:1"]);
    let tries = 0;
    for (let second = 0; second < 120; second++) {
      script.clock.pass(1000);
      tries += script.said().length;
    }
    assert.equal(tries, 5);
    assert.deepEqual([script.gone, script.far.log, script.clock.timers], [true, ["reset"], 0]);
  });

  test("an acknowledgement of what was never sent is reset, and the connection stays", () => {
    const script = new Script();
    script.connection.opened();
    script.heard();
    script.guest(1, 77, ACK);
    assert.deepEqual(script.said(), ["RST 77:0"]);
    assert.equal(script.connection.state, "SYN_RECEIVED");
  });

  test("options that the guest does not have are not used", () => {
    const script = new Script({ syn: { mss: 536, windowScale: undefined, sackPermitted: false } });
    script.establish();
    script.guest(11, 1, ACK, "late");
    assert.deepEqual(script.heard()[0]!.sack, []);
    script.far.sends = Buffer.alloc(1000, "x");
    script.connection.ready();
    assert.deepEqual(
      script.heard().map(({ data }) => data.length),
      [536, 464],
    );
  });

  test("a guest that is called answers, or refuses, or calls at the same time", () => {
    const answers = new Script({ calls: true });
    assert.deepEqual(answers.said(), ["SYN 0:0"]);
    answers.guest(0, 1, SYN | ACK, "", { mss: 1460 });
    assert.deepEqual([answers.connection.state, answers.said()], ["ESTABLISHED", ["ACK 1:1"]]);

    const refuses = new Script({ calls: true });
    refuses.guest(0, 9, RST | ACK);
    assert.equal(refuses.gone, false);
    refuses.guest(0, 1, RST | ACK);
    assert.deepEqual([refuses.gone, refuses.far.log], [true, ["reset"]]);

    const crosses = new Script({ calls: true });
    crosses.heard();
    crosses.guest(0, 0, SYN, "", { mss: 1460 });
    assert.deepEqual([crosses.connection.state, crosses.said()], ["SYN_RECEIVED", ["SYN ACK 0:1"]]);
    crosses.guest(0, 1, SYN | ACK);
    assert.equal(crosses.connection.state, "ESTABLISHED");

    const stray = new Script({ calls: true });
    stray.heard();
    stray.guest(0, 50, ACK);
    assert.deepEqual([stray.said(), stray.connection.state], [["RST 50:0"], "SYN_SENT"]);
  });
});

suite("data", () => {
  test("both ways, and acknowledgements that ride along", () => {
    const script = new Script().establish();
    script.guest(1, 1, ACK | PSH, "hello");
    assert.equal(script.far.received.toString(), "hello");
    script.far.sends = Buffer.from("hi");
    script.connection.ready();
    assert.deepEqual(script.said(), ["PSH ACK 1:6 hi"]);
    script.guest(6, 3, ACK);
    assert.deepEqual([script.said(), script.connection.heldBytes], [[], 0]);
  });

  test("out of order it waits, and is told of by SACK; twice is once", () => {
    const script = new Script().establish();
    script.guest(6, 1, ACK, "world");
    assert.deepEqual(script.heard()[0]!.sack, [{ from: 6, to: 11 }]);
    script.guest(21, 1, ACK, "!");
    assert.deepEqual(script.heard()[0]!.sack, [
      { from: 21, to: 22 },
      { from: 6, to: 11 },
    ]);
    script.guest(1, 1, ACK, "hello");
    assert.equal(script.far.received.toString(), "helloworld");
    const [now] = script.heard();
    assert.deepEqual([now!.acknowledgement, now!.sack], [11, [{ from: 21, to: 22 }]]);
    script.guest(1, 1, ACK, "hello");
    assert.deepEqual(script.said(), ["ACK 1:11"]);
    script.guest(9, 1, ACK, "ld, ");
    assert.equal(script.far.received.toString(), "helloworld, ");
  });

  test("a far side that takes nothing closes the window, and opens it by an update", () => {
    const script = new Script().establish();
    script.far.takes = 0;
    const block = "x".repeat(16384);
    let sequence = 1;
    for (; sequence < 65536 - 16384; sequence += 16384) script.guest(sequence, 1, ACK, block);
    script.guest(sequence, 1, ACK, "x".repeat(65535 - sequence + 1));
    assert.equal(script.heard().at(-1)!.window, 0);
    script.guest(65536, 1, ACK, "more");
    assert.deepEqual(
      script.heard().map(({ acknowledgement }) => acknowledgement),
      [65536],
    );
    script.far.takes = 1e9;
    script.connection.ready();
    assert.ok(script.heard().at(-1)!.window > 1000);
    assert.equal(script.far.received.length, 65535);
  });

  test("three duplicates bring the lost segment again at once", () => {
    const script = new Script().establish();
    script.far.sends = Buffer.concat(["a", "b", "c", "d", "e"].map((letter) => Buffer.alloc(1460, letter)));
    script.connection.ready();
    assert.equal(script.heard().length, 5);
    // Linux's SACK: the first is missing.
    for (const to of [2921, 4381, 5841]) {
      script.guest(1, 1, ACK, "", { sack: [{ from: OURS + 1461, to: OURS + to }] });
    }
    assert.deepEqual(
      script.heard().map(({ sequence, data }) => [sequence, data[0]]),
      [[1, "a"]],
    );
    script.guest(1, 7301, ACK);
    assert.equal(script.connection.heldBytes, 0);
  });

  test("without SACK three bare duplicates do the same, and a partial acknowledgement the next", () => {
    const script = new Script({ syn: { sackPermitted: false } }).establish();
    script.far.sends = Buffer.concat(["a", "b", "c", "d", "e"].map((letter) => Buffer.alloc(1460, letter)));
    script.connection.ready();
    script.heard();
    for (let count = 0; count < 3; count++) script.guest(1, 1, ACK);
    assert.deepEqual(
      script.heard().map(({ sequence }) => sequence),
      [1],
    );
    script.guest(1, 1461, ACK);
    assert.deepEqual(
      script.heard().map(({ sequence }) => sequence),
      [1461],
    );
  });

  test("silence brings it again after the timeout, twice as late each time, and is the end in time", () => {
    const script = new Script().establish();
    script.far.sends = Buffer.from("lost");
    script.connection.ready();
    const at: number[] = [];
    for (let tenth = 0; tenth < 10_000 && !script.gone; tenth++) {
      for (const { data } of script.heard()) if (data === "lost") at.push(tenth);
      script.clock.pass(100);
    }
    assert.deepEqual(at.slice(0, 5), [0, 10, 30, 70, 150]);
    assert.equal(script.connection.state, "CLOSED");
    assert.deepEqual([script.far.log.at(-1), script.clock.timers], ["reset", 0]);
  });

  test("a closed window is asked for, further and further apart", () => {
    const script = new Script().establish(0);
    script.far.sends = Buffer.from("waiting");
    script.connection.ready();
    const at: number[] = [];
    for (let tenth = 0; tenth < 200; tenth++) {
      for (const { sequence, data } of script.heard()) {
        assert.deepEqual([sequence, data], [0, ""]);
        at.push(tenth);
        script.guest(1, 1, ACK, "", { window: 0 });
      }
      script.clock.pass(100);
    }
    assert.deepEqual(at, [10, 30, 70, 150]);
    script.guest(1, 1, ACK, "", { window: 1000 });
    assert.deepEqual(script.said(), ["PSH ACK 1:1 waiting"]);
  });

  test("a window that was taken back does not hide our acknowledgements", () => {
    const script = new Script().establish(1000);
    script.far.sends = Buffer.alloc(1000, "x");
    script.connection.ready();
    script.guest(1, 1, ACK, "", { window: 100 });
    script.heard();
    script.guest(1, 1, ACK, "data", { window: 100 });
    assert.deepEqual(script.said(), ["ACK 101:5"]);
  });
});

suite("closing", () => {
  test("the guest first: CLOSE_WAIT, LAST_ACK, and data may still come", () => {
    const script = new Script().establish();
    script.guest(1, 1, ACK | FIN, "bye");
    assert.deepEqual([script.connection.state, script.said(), script.far.log], ["CLOSE_WAIT", ["ACK 1:5"], ["end"]]);
    script.far.sends = Buffer.from("answer");
    script.far.ended = true;
    script.connection.ready();
    assert.deepEqual([script.connection.state, script.said()], ["LAST_ACK", ["PSH ACK 1:5 answer", "FIN ACK 7:5"]]);
    script.guest(5, 8, ACK);
    assert.deepEqual([script.connection.state, script.gone, script.far.log], ["CLOSED", true, ["end", "close"]]);
    assert.equal(script.clock.timers, 0);
  });

  test("the far side first: FIN_WAIT_1, FIN_WAIT_2, TIME_WAIT", () => {
    const script = new Script().establish();
    script.far.ended = true;
    script.connection.ready();
    assert.deepEqual([script.connection.state, script.said()], ["FIN_WAIT_1", ["FIN ACK 1:1"]]);
    script.guest(1, 2, ACK);
    assert.equal(script.connection.state, "FIN_WAIT_2");
    script.guest(1, 2, ACK, "late");
    assert.equal(script.far.received.toString(), "late");
    script.guest(5, 2, ACK | FIN);
    assert.deepEqual([script.connection.state, script.said()], ["TIME_WAIT", ["ACK 2:6"]]);
    script.guest(5, 2, ACK | FIN);
    assert.deepEqual(script.said(), ["ACK 2:6"]);
    script.clock.pass(2001);
    assert.deepEqual([script.gone, script.far.log, script.clock.timers], [true, ["end", "close"], 0]);
  });

  test("both at the same time: CLOSING", () => {
    const script = new Script().establish();
    script.far.ended = true;
    script.connection.ready();
    script.heard();
    script.guest(1, 1, ACK | FIN);
    assert.deepEqual([script.connection.state, script.said()], ["CLOSING", ["ACK 2:2"]]);
    script.guest(2, 2, ACK);
    assert.equal(script.connection.state, "TIME_WAIT");
  });

  test("a FIN that is lost comes again with what was before it", () => {
    const script = new Script().establish();
    script.far.sends = Buffer.from("last");
    script.far.ended = true;
    script.connection.ready();
    script.heard();
    script.clock.pass(1100);
    assert.deepEqual(script.said(), ["FIN PSH ACK 1:1 last"]);
    script.guest(1, 6, ACK);
    assert.equal(script.connection.state, "FIN_WAIT_2");
  });

  test("a FIN that comes before what precedes it waits", () => {
    const script = new Script().establish();
    script.guest(4, 1, ACK | FIN, "def");
    assert.equal(script.connection.state, "ESTABLISHED");
    script.guest(1, 1, ACK, "abc");
    assert.deepEqual([script.connection.state, script.far.received.toString()], ["CLOSE_WAIT", "abcdef"]);
  });

  test("what the far side has not taken yet outlives the guest's side", () => {
    const script = new Script().establish();
    script.far.takes = 0;
    script.guest(1, 1, ACK | FIN, "slow");
    script.far.ended = true;
    script.connection.ready();
    script.guest(6, 2, ACK);
    assert.deepEqual([script.connection.state, script.gone, script.far.log], ["CLOSED", false, []]);
    script.far.takes = 100;
    script.connection.ready();
    assert.deepEqual([script.gone, script.far.received.toString(), script.far.log], [true, "slow", ["end", "close"]]);
  });
});

/** How each state is come to, and the guest's next sequence number and what it has acknowledged then. */
const STATES: Record<string, (script: Script) => readonly [sequence: number, acknowledgement: number]> = {
  SYN_RECEIVED: (script) => {
    script.connection.opened();
    return [1, 0];
  },
  ESTABLISHED: (script) => {
    script.establish();
    return [1, 1];
  },
  FIN_WAIT_1: (script) => {
    script.establish().far.ended = true;
    script.connection.ready();
    return [1, 1];
  },
  FIN_WAIT_2: (script) => {
    STATES.FIN_WAIT_1!(script);
    script.guest(1, 2, ACK);
    return [1, 2];
  },
  CLOSE_WAIT: (script) => {
    script.establish().guest(1, 1, ACK | FIN);
    return [2, 1];
  },
  CLOSING: (script) => {
    STATES.FIN_WAIT_1!(script);
    script.guest(1, 1, ACK | FIN);
    return [2, 1];
  },
  LAST_ACK: (script) => {
    STATES.CLOSE_WAIT!(script);
    script.far.ended = true;
    script.connection.ready();
    return [2, 1];
  },
  TIME_WAIT: (script) => {
    STATES.FIN_WAIT_2!(script);
    script.guest(1, 2, ACK | FIN);
    return [2, 2];
  },
};

suite("in every state", () => {
  for (const [state, reach] of Object.entries(STATES)) {
    const inState = () => {
      const script = new Script();
      const [sequence, acknowledgement] = reach(script);
      assert.equal(script.connection.state, state);
      script.heard();
      return { script, sequence, acknowledgement };
    };

    test(`${state}: a reset ends it, and nothing is left; one beside it does not`, () => {
      const { script, sequence, acknowledgement } = inState();
      script.guest(sequence + 5, acknowledgement, RST);
      script.guest(sequence + 100_000, acknowledgement, RST);
      script.guest(sequence - 1, acknowledgement, RST);
      assert.deepEqual([script.gone, script.connection.state], [false, state]);
      script.guest(sequence, acknowledgement, RST);
      assert.deepEqual([script.gone, script.clock.timers, script.connection.heldBytes], [true, 0, 0]);
    });

    test(`${state}: a SYN, and data that nobody may send any more, change nothing`, () => {
      const { script, sequence, acknowledgement } = inState();
      script.guest(sequence + 3, acknowledgement, SYN);
      assert.deepEqual([script.gone, script.connection.state], [false, state]);
      if (["CLOSE_WAIT", "CLOSING", "LAST_ACK", "TIME_WAIT"].includes(state)) {
        // Its FIN was the end.
        script.guest(sequence, acknowledgement, ACK | PSH, "more");
        assert.equal(script.far.received.length, 0);
        assert.equal(script.connection.state, state);
      }
    });

    test(`${state}: silence is its end in time, or costs nothing`, () => {
      const { script } = inState();
      script.clock.pass(3_600_000);
      // Where both ends are open there is nothing to wait for; where one is, the far side may take as long as it likes.
      const stays = ["ESTABLISHED", "CLOSE_WAIT", "FIN_WAIT_2"].includes(state);
      assert.deepEqual([script.connection.state, script.gone], stays ? [state, false] : ["CLOSED", true]);
      if (stays) assert.ok(script.clock.timers <= 1);
      else assert.equal(script.clock.timers, 0);
    });
  }

  test("a FIN that acknowledges ours: from FIN_WAIT_1 at once to TIME_WAIT", () => {
    const script = new Script();
    STATES.FIN_WAIT_1!(script);
    script.heard();
    script.guest(1, 2, ACK | FIN, "bye");
    assert.deepEqual([script.connection.state, script.said()], ["TIME_WAIT", ["ACK 2:5"]]);
    assert.equal(script.far.received.toString(), "bye");
  });

  test("a FIN with the acknowledgement that opens it: from SYN_RECEIVED at once to CLOSE_WAIT", () => {
    const script = new Script();
    STATES.SYN_RECEIVED!(script);
    script.heard();
    script.guest(1, 1, ACK | FIN, "question");
    assert.deepEqual([script.connection.state, script.said()], ["CLOSE_WAIT", ["ACK 1:10"]]);
    assert.deepEqual([script.far.received.toString(), script.far.log], ["question", ["end"]]);
  });
});

suite("resets and forgeries", () => {
  test("a reset at exactly the right number ends it; one beside it is challenged (RFC 5961)", () => {
    const script = new Script().establish();
    script.guest(1000, 1, RST);
    assert.deepEqual([script.said(), script.gone], [["ACK 1:1"], false]);
    script.guest(-1, 1, RST);
    assert.deepEqual([script.said(), script.gone], [[], false]);
    script.guest(1, 1, RST);
    assert.deepEqual([script.gone, script.far.log], [true, ["reset"]]);
  });

  test("a SYN in a connection is challenged", () => {
    const script = new Script().establish();
    script.guest(500, 0, SYN);
    script.guest(0, 0, SYN);
    assert.deepEqual([script.said(), script.connection.state], [["ACK 1:1", "ACK 1:1"], "ESTABLISHED"]);
  });

  test("acknowledgements of the future and of the past change nothing", () => {
    const script = new Script().establish();
    script.guest(1, 500, ACK, "forged");
    assert.deepEqual([script.said(), script.far.received.length], [["ACK 1:1"], 0]);
    script.far.sends = Buffer.from("abc");
    script.connection.ready();
    script.guest(1, 4, ACK);
    script.heard();
    script.guest(1, 2, ACK, "fine");
    assert.equal(script.far.received.toString(), "fine");
  });

  test("SACK blocks of what was never sent are no reason for anything", () => {
    const script = new Script().establish();
    script.far.sends = Buffer.alloc(2920, "x");
    script.connection.ready();
    script.heard();
    const sack = [
      { from: OURS + 1461, to: OURS + 90_000 },
      { from: OURS + 2000, to: OURS + 1999 },
      { from: OURS - 50, to: OURS },
    ];
    for (let count = 0; count < 2; count++) script.guest(1, 1, ACK, "", { sack });
    assert.deepEqual(script.said(), []);
  });

  test("what lies outside of the window is not kept", () => {
    const script = new Script().establish();
    script.guest(70_000, 1, ACK, "far away");
    script.guest(-100, 1, ACK, "long ago");
    assert.deepEqual([script.said(), script.connection.heldBytes], [["ACK 1:1", "ACK 1:1"], 0]);
    assert.ok(THEIRS > 100);
  });

  test("a far side that breaks resets the guest", () => {
    const script = new Script().establish();
    script.connection.failed(Errno.ECONNRESET);
    assert.deepEqual([script.said(), script.gone], [["RST ACK 1:1"], true]);
  });
});
