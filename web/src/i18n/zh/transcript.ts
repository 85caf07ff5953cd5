import type { Messages } from "../en/index.js";

export const transcript: Messages["transcript"] = { title: "转写" };
