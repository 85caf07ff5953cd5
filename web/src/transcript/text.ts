/** A transcript as plain text: to copy, and to print. Pure. */
import type { Segment } from "./model.js";

export interface Paragraph {
  readonly start: number;
  readonly speaker: string | null;
  readonly language: string | null;
  readonly text: string;
}

const PAUSE_SECONDS = 2;
const CJK_END = /[⺀-鿿豈-﫿＀-￯]$/u;

/** What one person says without a longer pause. */
export function paragraphs(segments: readonly Segment[], nameOf: (label: string) => string): Paragraph[] {
  const found: { start: number; speaker: string | null; language: string | null; text: string; end: number }[] = [];
  for (const { start, end, speaker, language, text } of segments) {
    const last = found.at(-1);
    const name = speaker === null ? null : nameOf(speaker);
    if (last?.speaker === name && last.language === language && start - last.end < PAUSE_SECONDS) {
      last.text += (CJK_END.test(last.text) ? "" : " ") + text;
      last.end = end;
    } else {
      found.push({ start, end, speaker: name, language, text });
    }
  }
  return found;
}

export function asText(
  list: readonly Paragraph[],
  { times, speakers, clock }: { times: boolean; speakers: boolean; clock: (seconds: number) => string },
): string {
  const head = ({ start, speaker }: Paragraph): string =>
    [times ? `[${clock(Math.floor(start))}]` : "", speakers && speaker !== null ? `${speaker}:` : ""].filter(Boolean).join(" ");
  return list.map((each) => [head(each), each.text].filter(Boolean).join(" ")).join("\n\n");
}
