import { common } from "./common.js";
import { errors } from "./errors.js";
import { home } from "./home.js";
import { keys } from "./keys.js";
import { order } from "./order.js";
import { queues } from "./queues.js";
import { record } from "./record.js";
import { search } from "./search.js";
import { shared } from "./shared.js";
import { shell } from "./shell.js";
import { training } from "./training.js";
import { transcript } from "./transcript.js";
import { usage } from "./usage.js";
import { vocabulary } from "./vocabulary.js";
import { voices } from "./voices.js";
import type { Messages } from "../en/index.js";

export const zh: Messages = { common, errors, home, keys, order, queues, record, search, shared, shell, training, transcript, usage, vocabulary, voices };
