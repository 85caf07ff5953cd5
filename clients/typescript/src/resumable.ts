import { Upload } from "tus-js-client";
import type { Client, Job, JobOptions } from "./client.js";
import { unwrap } from "./errors.js";

export interface ResumableOptions {
  filename?: string;
  /** Bytes of one request, which proxies may limit. */
  chunkSize?: number;
  onProgress?: (sent: number, size: number) => void;
  /** Called with the upload's id as soon as the server knows it. */
  onUpload?: (id: string) => void;
  signal?: AbortSignal;
}

/** What the server answers while it is busy, or another request goes on with the upload. */
const PASSING = [408, 409, 423, 429];

const CHUNK_BYTES = 64 * 1024 * 1024;

/**
 * Upload a recording by tus 1.0, which goes on where it broke off, also after the page was closed; then make its job.
 * Throws the error of tus-js-client, or ApiError. In Node a recording is a Buffer.
 */
export async function submitResumable(
  client: Client,
  recording: Blob | Uint8Array,
  options: JobOptions = {},
  more: ResumableOptions = {},
): Promise<Job> {
  const id = await uploadResumable(client, recording, more);
  return await unwrap(
    client.api.POST("/v1/jobs", {
      // an upload makes one job, however often it is asked to
      params: { header: { "idempotency-key": id } },
      body: { upload_id: id, options },
    }),
  );
}

/** The same without a job: the id of the upload, once all of it is there. */
export async function uploadResumable(
  client: Client,
  recording: Blob | Uint8Array,
  { filename, chunkSize = CHUNK_BYTES, onProgress, onUpload, signal }: ResumableOptions = {},
): Promise<string> {
  signal?.throwIfAborted();
  const named = filename ?? (recording instanceof File ? recording.name : "recording");
  return await new Promise<string>((resolve, reject) => {
    const stop = (): void => {
      void upload.abort();
      reject(signal?.reason as Error);
    };
    const upload = new Upload(recording as Blob, {
      endpoint: `${client.baseUrl}/v1/uploads`,
      metadata: { filename: named },
      chunkSize,
      retryDelays: [0, 1000, 3000, 5000, 10_000],
      removeFingerprintOnSuccess: true,
      onBeforeRequest: async (request) => {
        for (const [name, value] of Object.entries(await client.headers())) request.setHeader(name, value);
      },
      onError: (error) => {
        signal?.removeEventListener("abort", stop);
        reject(error);
      },
      onSuccess: () => {
        signal?.removeEventListener("abort", stop);
        resolve(idOf(upload));
      },
      onUploadUrlAvailable: () => onUpload?.(idOf(upload)),
      onShouldRetry: (error) => {
        const status = error.originalResponse?.getStatus() ?? 0;
        return status < 400 || status >= 500 || PASSING.includes(status);
      },
      ...(onProgress && { onProgress }),
    });
    signal?.addEventListener("abort", stop, { once: true });
    void resume(upload).then(() => signal?.aborted || upload.start(), reject);
  });
}

/** The last part of its URL. */
const idOf = (upload: Upload): string => upload.url?.replace(/.*\//, "") ?? "";

/** Go on with an upload of the same file that the browser remembers. */
async function resume(upload: Upload): Promise<void> {
  const [newest] = (await upload.findPreviousUploads()).sort((a, b) => b.creationTime.localeCompare(a.creationTime));
  if (newest !== undefined) upload.resumeFromPreviousUpload(newest);
}
