import type { Messages } from "../en/index.js";
import { common } from "./common.js";
import { errors } from "./errors.js";
import { home } from "./home.js";
import { shell } from "./shell.js";
import { transcript } from "./transcript.js";

export const zh: Messages = { common, errors, home, shell, transcript };
