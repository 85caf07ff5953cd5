/** The words of a segment in its text. Pure. */
import type { Segment, Word } from "./model.js";

const CJK = /[⺀-ヿㇰ-鿿豈-﫿＀-￯\u{20000}-\u{2ffff}]/u;

/** Whether a space stands between two words, as the server joins them. */
export function spaceBetween(before: Word | undefined, word: Word): boolean {
  if (before === undefined || word.glued || before.text === "" || word.text === "") return false;
  return !(CJK.test([...before.text].at(-1) ?? "") && CJK.test([...word.text][0] ?? ""));
}

/** What is drawn of a segment: each word with the space before it, or the whole text where it has no words. */
export function pieces(segment: Segment): { word: Word; space: boolean }[] {
  return segment.words.map((word, place) => ({ word, space: spaceBetween(segment.words[place - 1], word) }));
}

/** How many words of a segment lie before an offset in its text: where to divide it. Never within a word. */
export function wordsBefore(segment: Segment, offset: number): number {
  let at = 0;
  let count = 0;
  for (const { word, space } of pieces(segment)) {
    at += (space ? 1 : 0) + word.text.length;
    // a caret within a word divides behind it, one before its first letter before it
    if (at - word.text.length >= offset) break;
    count += 1;
  }
  return count;
}

/** The next word, in reading order behind a place, of which the models were not sure. */
export function nextDoubtful(
  segments: readonly Segment[],
  after: { segment: number; word: number },
  threshold: number,
): { segment: number; word: number } | null {
  for (let step = 0; step <= segments.length; step += 1) {
    const place = (after.segment + step) % Math.max(segments.length, 1);
    const segment = segments[place];
    if (segment === undefined) return null;
    for (const [word, { confidence }] of segment.words.entries()) {
      const behind = step > 0 || word > after.word;
      if (behind && isDoubtful(segment, confidence, threshold)) return { segment: place, word };
    }
  }
  return null;
}

export const DOUBTFUL = 0.6;

export const isDoubtful = (segment: Segment, confidence: number, threshold = DOUBTFUL): boolean =>
  segment.source !== "human" && confidence < threshold;
