/** Titles, labels and values as lines that fit a terminal. */

export interface Section {
  title: string;
  rows: (readonly [label: string, value: string])[];
}

const INDENT = "  ";

/** Values begin in one column of the whole text and go on below themselves. */
export function layOut(sections: readonly Section[], columns: number): string {
  const label = Math.max(...sections.flatMap(({ rows }) => rows.map(([text]) => text.length)));
  const start = INDENT.length + label + 2;
  return sections
    .map(({ title, rows }) =>
      [
        title,
        ...rows.flatMap(([text, value]) =>
          wrap(value, columns - start).map(
            (line, index) => INDENT + (index === 0 ? text : "").padEnd(label) + INDENT + line,
          ),
        ),
      ].join("\n"),
    )
    .join("\n\n");
}

/** Breaks at spaces; a word that is longer than a line stands alone. */
export function wrap(value: string, columns: number): string[] {
  const lines: string[] = [];
  let line = "";
  for (const word of value.split(" ")) {
    if (line !== "" && line.length + 1 + word.length > columns) {
      lines.push(line);
      line = word;
    } else {
      line = line === "" ? word : `${line} ${word}`;
    }
  }
  return [...lines, line];
}
