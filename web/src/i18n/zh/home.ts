import type { Messages } from "../en/index.js";

export const home: Messages["home"] = { empty: "还没有内容" };
