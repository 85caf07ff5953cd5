/** Jobs that were deleted here: they are off every list at once, and deleted at the server once nobody can undo it. */
import { explain } from "../api/problems.js";
import { toast } from "../components/toasts.svelte.js";
import { t } from "../i18n/index.svelte.js";
import { failures, problemOf, results } from "./bulk.js";

let hidden = $state.raw<ReadonlySet<string>>(new Set());
const waiting = new Set<string>();

export const isDeleted = (id: string): boolean => hidden.has(id);

export function remove(ids: readonly string[]): void {
  hidden = new Set([...hidden, ...ids]);
  for (const id of ids) waiting.add(id);
  toast(t("home.deleted", { count: ids.length }), {
    action: { label: t("common.undo"), run: () => bringBack(ids) },
    ended: () => void deleteAll(ids),
  });
}

function bringBack(ids: readonly string[]): void {
  const back = new Set(ids);
  hidden = new Set([...hidden].filter((id) => !back.has(id)));
  for (const id of ids) waiting.delete(id);
}

async function deleteAll(ids: readonly string[]): Promise<void> {
  for (const id of ids) waiting.delete(id);
  try {
    for (const failed of failures(await results({ action: "delete" }, ids))) {
      bringBack([failed.job_id]);
      toast(explain(problemOf(failed)), { tone: "danger" });
    }
  } catch (error) {
    bringBack(ids);
    toast(explain(error), { tone: "danger" });
  }
}

// the page is left: what waits is deleted now
addEventListener("pagehide", () => {
  if (waiting.size > 0) void results({ action: "delete" }, [...waiting], true).catch(() => null);
  waiting.clear();
});
