/** Addresses for what cannot send a key: `<audio>`, and downloads. */
import { api, client, session, unwrap } from "./index.svelte.js";

/** Of a job's recording, with a token for this job alone, which ends soon, where the server asks for a key. */
export async function audioUrl(jobId: string): Promise<string> {
  const url = `${client.baseUrl}/v1/jobs/${jobId}/audio`;
  if (!session.signedIn) return url;
  const body = { scopes: ["jobs:read" as const], job_id: jobId };
  const { token } = await unwrap(api.POST("/v1/tokens", { body }));
  return `${url}?token=${encodeURIComponent(token)}`;
}
