import type { Messages } from "../en/index.js";
import { common } from "./common.js";
import { home } from "./home.js";
import { transcript } from "./transcript.js";

export const zh: Messages = { common, home, transcript };
