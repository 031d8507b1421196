import assert from "node:assert/strict";
import { test } from "node:test";
import { Fcr, Ier, Iir, Lsr, Mcr, Register } from "./layout.ts";
import { Uart16550 } from "./uart.ts";

function port(saved?: Parameters<typeof Uart16550.create>[0]) {
  const levels: boolean[] = [];
  let woken = 0;
  const uart = new Uart16550(Uart16550.create(saved), {
    irq: { set: (high) => levels.push(high) },
    wakeHost: () => woken++,
  });
  const read = (register: number) => uart.read(register, 1);
  const write = (register: number, value: number) => uart.write(register, 1, value);
  return { uart, levels, read, write, woken: () => woken };
}

const text = (bytes: Uint8Array) => Buffer.from(bytes).toString();

test("what is written comes out, and the host is told once until it comes", () => {
  const { uart, write, woken } = port();
  for (const character of "hello") write(Register.DATA, character.charCodeAt(0));
  assert.equal(woken(), 1);
  assert.equal(text(uart.transmitted()), "hello");
  write(Register.DATA, 33);
  assert.equal(woken(), 2);
  assert.equal(text(uart.transmitted()), "!");
});

test("drivers find a 16550A: scratch, FIFOs, divisor, loopback", () => {
  const { read, write, levels } = port();
  write(Register.SCR, 0x5a);
  assert.equal(read(Register.SCR), 0x5a);
  write(Register.IIR, Fcr.ENABLE);
  assert.equal(read(Register.IIR), Iir.FIFOS_ENABLED | Iir.NONE);
  write(Register.LCR, 0x83);
  write(Register.DATA, 0x34);
  write(Register.IER, 0x12);
  assert.deepEqual([read(Register.DATA), read(Register.IER)], [0x34, 0x12]);
  write(Register.LCR, 3);
  assert.equal(read(Register.IER), 0);
  // Linux's autoconfig: OUT2 and RTS in loopback read back as carrier and CTS.
  write(Register.MCR, Mcr.LOOPBACK | Mcr.OUT2 | Mcr.RTS);
  assert.equal(read(Register.MSR) & 0xf0, 0x90);
  write(Register.IER, Ier.RECEIVED);
  write(Register.DATA, 0x77);
  assert.equal(read(Register.DATA), 0x77);
  assert.deepEqual(levels, [], "nothing interrupts in loopback");
});

test("the transmitter's interrupt: on enabling it, until IIR is read, and again after each character", () => {
  const { read, write, levels } = port();
  write(Register.IER, Ier.TRANSMITTER_EMPTY);
  assert.deepEqual(levels, [true]);
  assert.equal(read(Register.IIR), Iir.TRANSMITTER_EMPTY);
  assert.deepEqual(levels, [true, false]);
  assert.equal(read(Register.IIR), Iir.NONE);
  write(Register.DATA, 65);
  assert.deepEqual(levels, [true, false, true]);
});

test("received characters interrupt until they are read; below the trigger level as a timeout", () => {
  const { uart, read, write, levels } = port();
  write(Register.IIR, Fcr.ENABLE | 0x80);
  write(Register.IER, Ier.RECEIVED);
  assert.equal(uart.receive(Buffer.from("1234567")), 7);
  assert.equal(read(Register.IIR) & 15, Iir.TIMEOUT);
  uart.receive(Buffer.from("8"));
  assert.equal(read(Register.IIR) & 15, Iir.RECEIVED);
  let seen = "";
  while (read(Register.LSR) & Lsr.DATA_READY) seen += String.fromCharCode(read(Register.DATA));
  assert.equal(seen, "12345678");
  assert.deepEqual(levels, [true, false]);
});

test("a guest that is ahead of the host waits, and one that does not look loses characters", () => {
  const { uart, read, write, levels } = port();
  write(Register.IER, Ier.TRANSMITTER_EMPTY);
  let sent = 0;
  while (read(Register.LSR) & Lsr.HOLDING_EMPTY) {
    write(Register.DATA, sent++ & 0xff);
    assert.ok(sent < 1e6, "the port takes any amount");
  }
  write(Register.DATA, 1);
  levels.length = 0;
  const taken = uart.transmitted();
  assert.equal(taken.length, sent);
  assert.ok(taken.every((byte, index) => byte === (index & 0xff)));
  assert.deepEqual(levels, [true], "there is room again");
});

test("a host that is ahead of the guest is told when there is room again", () => {
  const { uart, read, woken } = port();
  const much = new Uint8Array(10_000).fill(7);
  const taken = uart.receive(much);
  assert.ok(taken < much.length);
  for (let count = 0; count < taken; count++) assert.equal(read(Register.DATA), 7);
  assert.equal(woken(), 1);
  assert.equal(uart.receive(much.subarray(taken)), Math.min(taken, much.length - taken));
});

test("a saved port is the same port", () => {
  const { uart, read, write } = port();
  write(Register.SCR, 9);
  write(Register.IER, Ier.RECEIVED | Ier.MODEM_STATUS);
  uart.receive(Buffer.from("kept"));
  const again = port(uart.save());
  assert.deepEqual(again.uart.save(), uart.save());
  assert.equal(again.read(Register.SCR), read(Register.SCR));
  assert.equal(again.read(Register.DATA), "k".charCodeAt(0));
  assert.throws(() => Uart16550.create({ ...uart.save(), version: 99 }), /version 99/);
  assert.throws(() => Uart16550.create({ ...uart.save(), lcr: -1 }), /lcr -1/);
});
