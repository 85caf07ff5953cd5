/** What two people made of the same text, word by word. Pure. */

const tokens = (text: string): string[] => text.split(/\s+/u).filter(Boolean);

interface Change {
  /** Words `from` to `to` (exclusive) of the base … */
  readonly from: number;
  readonly to: number;
  /** … became these. */
  readonly words: readonly string[];
}

/** The changes that make `base` into `changed`, by their longest common subsequence. */
function changes(base: readonly string[], changed: readonly string[]): Change[] {
  const rows = base.length;
  const columns = changed.length;
  const length = Array.from({ length: rows + 1 }, () => new Uint16Array(columns + 1));
  const at = (row: number, column: number): number => length[row]?.[column] ?? 0;
  for (let i = rows - 1; i >= 0; i -= 1) {
    const row = length[i] as Uint16Array;
    for (let j = columns - 1; j >= 0; j -= 1) {
      row[j] = base[i] === changed[j] ? at(i + 1, j + 1) + 1 : Math.max(at(i + 1, j), at(i, j + 1));
    }
  }
  const found: Change[] = [];
  let i = 0;
  let j = 0;
  while (i < rows || j < columns) {
    if (i < rows && j < columns && base[i] === changed[j]) {
      i += 1;
      j += 1;
      continue;
    }
    const from = i;
    const first = j;
    while ((i < rows || j < columns) && !(i < rows && j < columns && base[i] === changed[j])) {
      if (j >= columns || (i < rows && at(i + 1, j) >= at(i, j + 1))) i += 1;
      else j += 1;
    }
    found.push({ from, to: i, words: changed.slice(first, j) });
  }
  return found;
}

/** Whether two changes touch the same words, or insert at the same place. */
const overlap = (a: Change, b: Change): boolean =>
  (a.from < b.to && b.from < a.to) || (a.from === b.from && a.to === b.to);

/** Both changes of a text in one, or null where they touch the same words in different ways. */
export function mergeTexts(base: string, mine: string, theirs: string): string | null {
  if (mine === theirs || base === theirs) return mine;
  if (base === mine) return theirs;
  const words = tokens(base);
  const ours = changes(words, tokens(mine));
  const others = changes(words, tokens(theirs));
  const same = (a: Change, b: Change): boolean =>
    a.from === b.from && a.to === b.to && a.words.join(" ") === b.words.join(" ");
  const all = [...ours];
  for (const change of others) {
    if (ours.some((each) => same(each, change))) continue;
    if (ours.some((each) => overlap(each, change))) return null;
    all.push(change);
  }
  // from the end, and what is inserted before a changed word after it, so that places stay what they are
  all.sort((a, b) => b.from - a.from || b.to - a.to);
  for (const { from, to, words: become } of all) words.splice(from, to - from, ...become);
  return words.join(" ");
}
