/** What a version's metrics say, which the API passes on as the training reported them. */
import type { components } from "longhand-client";

type Version = components["schemas"]["VersionView"];

export interface Measured {
  /** Share of characters that were wrong, on clips that nobody trained on. */
  before: number | null;
  after: number | null;
  /** Of the drafts that people corrected, as they stood. */
  corrected: number | null;
  losses: number[];
  /** That the tuning took. */
  seconds: number;
  clips: number;
}

const numberOf = (value: unknown): number | null => (typeof value === "number" ? value : null);

export function measured({ metrics }: Version): Measured {
  const rates = (metrics["cer"] ?? {}) as Record<string, unknown>;
  const clips = (metrics["clips"] ?? {}) as Record<string, unknown>;
  const losses = Array.isArray(metrics["losses"]) ? metrics["losses"] : [];
  return {
    before: numberOf(rates["base"]),
    after: numberOf(rates["export"]) ?? numberOf(rates["tuned"]),
    corrected: numberOf(rates["served"]),
    losses: losses.filter((loss) => typeof loss === "number"),
    seconds: numberOf(metrics["seconds"]) ?? 0,
    clips: numberOf(clips["train"]) ?? 0,
  };
}
