/** What is being done with a job, in words. */
import type { Job } from "longhand-client";
import { t } from "../i18n/index.svelte.js";

export function stageOf({ status, audio, progress, options }: Job): string {
  const { chunks, drafted, refined, final } = progress;
  if (status === "queued") {
    if (audio.sha256 !== null) return t("home.stages.waiting");
    return audio.source_url === null ? t("home.stages.preparing") : t("home.stages.fetching");
  }
  if (chunks === 0) return t("home.stages.cutting");
  if (final >= chunks) return t("home.stages.finishing");
  const drafts = options["refine"] !== "only";
  if (drafts && drafted < chunks) return t("home.stages.drafting", { done: drafted, all: chunks });
  if (options["refine"] !== "never" && refined < chunks) return t("home.stages.refining", { done: refined, all: chunks });
  return t("home.stages.aligning", { done: final, all: chunks });
}
