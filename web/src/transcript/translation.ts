/** A transcript in another language, as it is shown beside the first. */
import type { components } from "../api/index.svelte.js";

export interface Translation {
  /** Of the reading that it is. */
  readonly number: number;
  readonly language: string;
  /** By the segments' indexes. */
  readonly texts: ReadonlyMap<number, string>;
}

type Reading = components["schemas"]["ReadingView"];

/** What there is in one language: the newest that was asked for, and the newest that is done. */
export interface Translated {
  readonly language: string;
  readonly asked: Reading;
  readonly done: Reading | null;
}

/** Of readings, the newest first. */
export function translationsOf(readings: readonly Reading[]): Translated[] {
  const found = new Map<string, Translated>();
  for (const reading of readings) {
    const language = reading.request["language"];
    if (reading.kind !== "translation" || typeof language !== "string") continue;
    const { asked, done } = found.get(language) ?? { asked: reading, done: null };
    found.set(language, { language, asked, done: done ?? (reading.status === "completed" ? reading : null) });
  }
  return [...found.values()];
}
