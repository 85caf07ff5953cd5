/** The same with many recordings, in one request. */
import { api, ApiError, unwrap, type components } from "../api/index.svelte.js";

type Schemas = components["schemas"];
type Wanted = Pick<Schemas["BulkRequest"], "action"> & { tags?: string[]; collection?: string };
export type Result = Schemas["BulkResult"];

const MOST = 1000;

/** What became of each. Throws where a whole request is refused. With `keepalive` all are sent before the page is gone. */
export async function results(wanted: Wanted, ids: readonly string[], keepalive = false): Promise<Result[]> {
  const send = async (jobs: string[]): Promise<Result[]> =>
    (await unwrap(api.POST("/v1/jobs/bulk", { body: { tags: [], ...wanted, jobs }, keepalive }))).results;
  const parts: string[][] = [];
  for (let from = 0; from < ids.length; from += MOST) parts.push(ids.slice(from, from + MOST));
  if (keepalive) return (await Promise.all(parts.map(send))).flat();
  const found: Result[] = [];
  for (const part of parts) found.push(...(await send(part)));
  return found;
}

/** The same, throwing what the first that failed has failed with: those that are gone do not count. */
export async function bulk(wanted: Wanted, ids: readonly string[]): Promise<void> {
  const failed = failures(await results(wanted, ids))[0];
  if (failed !== undefined) throw problemOf(failed);
}

export const failures = (all: readonly Result[]): Result[] =>
  all.filter(({ error }) => error !== null && error.code !== "job_not_found");

export const problemOf = ({ error }: Result): ApiError =>
  new ApiError(409, error?.code ?? "unknown", "Not done", error?.message ?? "");
