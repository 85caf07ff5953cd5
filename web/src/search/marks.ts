/** A text in pieces, of which some were found. */
export interface Piece {
  readonly text: string;
  readonly found: boolean;
}

/** Divide a text at [start, end) of what was found, which count characters and not UTF-16 units. */
export function pieces(text: string, highlights: readonly (readonly number[])[]): Piece[] {
  const characters = Array.from(text);
  const divided: Piece[] = [];
  let at = 0;
  const take = (end: number, found: boolean): void => {
    if (end > at) divided.push({ text: characters.slice(at, end).join(""), found });
    at = Math.max(at, end);
  };
  for (const [start = 0, end = 0] of highlights) {
    take(start, false);
    take(end, true);
  }
  take(characters.length, false);
  return divided;
}
