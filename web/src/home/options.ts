/** How recordings are to be transcribed, as the form has it, and as the API takes it. */
import type { JobOptions } from "longhand-client";
import { keep, kept } from "../kept.js";

export const REFINE = ["always", "uncertain", "never"] as const;
export const PRIORITIES = ["high", "normal", "low"] as const;
export const REDACTED = ["phone", "email", "card", "id"] as const;

export interface Wanted {
  /** "" detects it. */
  language: string;
  /** Whether to find out who speaks: as the server does by default, a number of people, or not at all. */
  speakers: "default" | "any" | "none" | `${number}`;
  hotwords: string;
  refine: (typeof REFINE)[number];
  priority: (typeof PRIORITIES)[number];
  source: string;
  digits: boolean;
  /** Whether all is written in English, whatever is spoken. */
  translate: boolean;
  split: boolean;
  training: boolean;
  redact: (typeof REDACTED)[number][];
}

const DEFAULT: Wanted = {
  language: "",
  speakers: "default",
  hotwords: "",
  refine: "always",
  priority: "normal",
  source: "",
  digits: false,
  translate: false,
  split: false,
  training: true,
  redact: [],
};
const KEPT = "longhand.options";

/** As they were chosen last. */
export function lastWanted(): Wanted {
  try {
    return { ...DEFAULT, ...(JSON.parse(kept(KEPT) ?? "{}") as Partial<Wanted>) };
  } catch {
    return { ...DEFAULT };
  }
}

export function keepWanted(wanted: Wanted): void {
  keep(KEPT, JSON.stringify(wanted));
}

/** Of what was chosen for a recording, what holds for anything that is said: its language, and what may become of it. */
export function ofSpeech({ language, training, redact }: Wanted): Wanted {
  return { ...DEFAULT, language, training, redact };
}

export function toOptions(wanted: Wanted): JobOptions {
  const { language, speakers, refine, priority } = wanted;
  const hotwords = wanted.hotwords.split(/[,，\n]/).flatMap((word) => word.trim() || []);
  const source = wanted.source.trim();
  const people: JobOptions = wanted.split
    ? { channels: "split" }
    : speakers === "default"
      ? {}
      : speakers === "none" || speakers === "any"
        ? { diarize: speakers === "any" }
        : { diarize: true, speakers: Number(speakers) };
  return {
    ...people,
    ...(language && { language }),
    ...(hotwords.length > 0 && { hotwords }),
    // what translates is the second reading: there is nothing else to choose then
    ...(wanted.translate ? { translate: true } : refine !== "always" && { refine }),
    ...(priority !== "normal" && { priority }),
    ...(source && { source }),
    ...(wanted.digits && { digits: true }),
    ...(!wanted.training && { training: false }),
    ...(wanted.redact.length > 0 && { redact: wanted.redact }),
  };
}
