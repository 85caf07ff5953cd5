/** Finding text in a transcript. Pure. */
import type { Segment } from "./model.js";
import { pieces } from "./words.js";

/** A match: words `first` to `last` of the segment at a place in the list. */
export interface Match {
  readonly segment: number;
  readonly first: number;
  readonly last: number;
}

const fold = (text: string): string => text.normalize("NFKD").replace(/\p{M}/gu, "").toLocaleLowerCase();

/** All matches in order, without regard to case and accents. A match may run over several words of a segment. */
export function findAll(segments: readonly Segment[], query: string): Match[] {
  const wanted = fold(query.trim().replace(/\s+/gu, " "));
  if (wanted === "") return [];
  const found: Match[] = [];
  for (const [place, segment] of segments.entries()) {
    // most segments have none: look before the words are laid out
    if (!fold(segment.text).includes(wanted)) continue;
    let text = "";
    const ends: number[] = [];
    for (const { word, space } of pieces(segment)) {
      text += (space ? " " : "") + fold(word.text);
      ends.push(text.length);
    }
    for (let at = text.indexOf(wanted); at >= 0; at = text.indexOf(wanted, at + wanted.length)) {
      const first = ends.findIndex((end) => end > at);
      const last = ends.findIndex((end) => end >= at + wanted.length);
      if (first >= 0) found.push({ segment: place, first, last: last < 0 ? ends.length - 1 : last });
    }
  }
  return found;
}
