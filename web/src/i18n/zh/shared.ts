import type { Messages } from "../en/index.js";

export const shared: Messages["shared"] = {
  until: "分享有效至 {{date}}",
  playFrom: "从 {{time}} 播放",
};
