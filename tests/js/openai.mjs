// OpenAI's JavaScript client: what it reads from this server, as JSON. Arguments: base URL, file.
import { createReadStream } from "node:fs";
import OpenAI from "openai";

const [baseURL, file] = process.argv.slice(2);
const client = new OpenAI({ baseURL, apiKey: "any", maxRetries: 0 });
const create = (fields) =>
  client.audio.transcriptions.create({ file: createReadStream(file), model: "whisper-1", ...fields });

const models = [];
for await (const model of await client.models.list()) models.push(model.id);
const { text } = await create({ language: "en" });
const verbose = await create({ response_format: "verbose_json", timestamp_granularities: ["word", "segment"] });
const types = [];
let deltas = "";
let done;
for await (const event of await create({ stream: true })) {
  types.push(event.type);
  if (event.type === "transcript.text.delta") deltas += event.delta;
  if (event.type === "transcript.text.done") done = event.text;
}
let error;
try {
  await create({ language: "xx" });
} catch ({ status, code, param }) {
  error = { status, code, param };
}
console.log(JSON.stringify({ models, text, verbose, types, deltas, done, error }));
