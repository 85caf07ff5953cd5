import type { Messages } from "../en/index.js";

export const common: Messages["common"] = {
  pages: {
    home: "录音",
    voices: "声音",
    training: "模型",
    usage: "用量",
    keys: "密钥",
    notfound: "没有这个页面",
  },
};
