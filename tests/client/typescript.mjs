// The TypeScript client, compiled: what it reads from a server, as JSON.
// Arguments: base URL, key, and a recording, without which only the events of a job "x" are read.
import { readFile } from "node:fs/promises";
import { Client, unwrap } from "longhand-client";
import { submitResumable } from "longhand-client/resumable";

const [baseUrl, key, file] = process.argv.slice(2);
const client = new Client({ baseUrl, key: async () => key });

const eventsOf = async (id, options) => {
  const events = [];
  for await (const event of client.events(id, options)) events.push(event);
  return events;
};
const failure = async (call) => {
  try {
    await call;
  } catch ({ name, status, code, retryAfter }) {
    return { name, status, code, retryAfter };
  }
};

if (file === undefined) {
  console.log(JSON.stringify(await eventsOf("x")));
} else {
  const data = await readFile(file);
  const recording = new File([data], "talk.flac");
  const refused = await failure(client.submit(recording, { language: "xx" }));
  const stranger = await failure(new Client({ baseUrl, key: "wrong" }).wait("x"));
  const { id } = await client.submit(recording, { language: "en", refine: "never", diarize: false });
  const { id: resumed } = await submitResumable(
    client,
    data,
    { language: "en", diarize: false },
    { filename: "b.flac", chunkSize: 99_999 },
  );
  const events = await eventsOf(id);
  const rest = await eventsOf(id, { after: events.at(-1).seq - 1 });
  const nothing = await eventsOf(id, { after: events.at(-1).seq });
  const stop = new AbortController();
  let stopped;
  for await (const { seq } of client.events(id, { signal: stop.signal })) {
    stopped = seq;
    break;
  }
  stop.abort();
  const aborted = await failure(eventsOf(id, { signal: stop.signal }));
  const job = await client.wait(resumed);
  const listed = [];
  for await (const each of client.jobs({ limit: 1 })) listed.push(each.id);
  const { segments } = await client.transcript(id);
  const subtitles = await (await client.transcriptAs(id, "srt")).text();
  const cancelled = await failure(unwrap(client.api.POST("/v1/jobs/{job_id}/cancel", { params: { path: { job_id: id } } })));
  const deleted = await unwrap(client.api.DELETE("/v1/jobs/{job_id}", { params: { path: { job_id: id } } }));
  const found = { refused, stranger, id, resumed, job, events, rest, nothing, stopped, aborted, listed, segments, subtitles };
  console.log(JSON.stringify({ ...found, cancelled, deleted: deleted ?? null }));
}
