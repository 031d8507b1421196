/** Arguments that a careless quoting would damage, for the tests. */
export const nasty = [
  "",
  " ",
  "a b",
  "'",
  "'\\''",
  '"$HOME"',
  "$(id)",
  "`id`",
  "\n",
  "a\n\nb\n",
  "\\",
  "*",
  "-n",
  "ä€😀",
  "!",
];
