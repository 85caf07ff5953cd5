/** The waveform as it is drawn: a bar for a few pixels, in the colour of who speaks. Pure. */
import { lastAtMost, type Turn } from "./model.js";

export interface Bar {
  readonly x: number;
  /** From 0 to 1. */
  readonly height: number;
  readonly speaker: string | null;
}

export const BAR_PIXELS = 3;

/** Bars for a width, loudest peak each; quiet recordings fill the height, too. */
export function bars(peaks: readonly number[], duration: number, width: number, turns: readonly Turn[]): Bar[] {
  const count = Math.max(Math.floor(width / BAR_PIXELS), 1);
  const loudest = Math.max(32, ...chunked(peaks, 1000));
  const found: Bar[] = [];
  for (let bar = 0; bar < count; bar += 1) {
    const from = Math.floor((bar * peaks.length) / count);
    const to = Math.max(Math.floor(((bar + 1) * peaks.length) / count), from + 1);
    let peak = 0;
    for (let at = from; at < to && at < peaks.length; at += 1) peak = Math.max(peak, peaks[at] ?? 0);
    const middle = ((bar + 0.5) * duration) / count;
    found.push({ x: bar * BAR_PIXELS, height: Math.max(peak / loudest, 0.04), speaker: speakerAt(turns, middle) });
  }
  return found;
}

/** The largest of each thousand: an argument list has its limits. */
function chunked(values: readonly number[], size: number): number[] {
  const found: number[] = [];
  for (let at = 0; at < values.length; at += size) found.push(Math.max(...values.slice(at, at + size)));
  return found;
}

/** Who has the floor at a time; turns are in order of their start. */
export function speakerAt(turns: readonly Turn[], seconds: number): string | null {
  const place = lastAtMost(turns, seconds, ({ start }) => start);
  for (let at = place; at >= 0 && at > place - 4; at -= 1) {
    const turn = turns[at];
    if (turn !== undefined && turn.end > seconds) return turn.speaker;
  }
  return null;
}
