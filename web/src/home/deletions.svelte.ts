/** Jobs that were deleted here: they are off every list at once, and deleted at the server once nobody can undo it. */
import { api, unwrap } from "../api/index.svelte.js";
import { explain, isGone } from "../api/problems.js";
import { toast } from "../components/toasts.svelte.js";
import { t } from "../i18n/index.svelte.js";

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

const request = (id: string, keepalive = false): Promise<unknown> =>
  unwrap(api.DELETE("/v1/jobs/{job_id}", { params: { path: { job_id: id } }, keepalive }));

async function deleteAll(ids: readonly string[]): Promise<void> {
  for (const id of ids) waiting.delete(id);
  const results = await Promise.allSettled(ids.map((id) => request(id)));
  results.forEach((result, place) => {
    const id = ids[place];
    if (result.status === "fulfilled" || isGone(result.reason) || id === undefined) return;
    bringBack([id]);
    toast(explain(result.reason), { tone: "danger" });
  });
}

// the page is left: what waits is deleted now
addEventListener("pagehide", () => {
  for (const id of waiting) void request(id, true).catch(() => null);
  waiting.clear();
});
