/** What a speaker is called. */
import { t } from "../i18n/index.svelte.js";
import type { Speaker } from "./model.js";

/** The name; without one the number that the label has, or what somebody typed in. */
export function speakerName(label: string, speaker: Speaker | undefined): string {
  const number = /^SPEAKER_(\d+)$/u.exec(label)?.[1];
  return speaker?.name ?? (number === undefined ? label : t("transcript.speaker", { number: Number(number) + 1 }));
}
