import type { Messages } from "../en/index.js";

export const vocabulary: Messages["vocabulary"] = {
  title: "词汇",
  about: "姓名和术语的正确写法。今后转写的录音都会用到。",
  add: "添加词条",
  addAbout: "当模型不确定时，它会取代听起来相似的文字。",
  term: "姓名或术语",
  soundsLike: "常被误听成",
  soundsLikeHint: "以逗号分隔，可留空。",
  proposals: "根据修改提出的建议",
  corrected: "已修改 {{count}} 次，误听为：{{heard}}",
  accept: "采纳",
  reject: "拒绝",
  heardAs: "误听为：{{heard}}",
  remove: "移除 {{term}}",
  removed: "已移除 {{term}}",
  empty: "还没有词条",
  emptyAbout: "在此添加。同一处文字被修改两次后会成为建议。",
};
