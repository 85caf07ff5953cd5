import type { Messages } from "../en/index.js";

export const search: Messages["search"] = {
  title: "搜索",
  about: "在全部转写文本中查找，包括草稿。",
  placeholder: '预算 "一句话" begin* -排除',
  placeholderMeaning: "Who repairs the bridge?",
  mode: "查找",
  words: "词语",
  meaning: "含义（英语）",
  speaker: "说话人",
  from: "起始日期",
  to: "截止日期",
  start: "谁在何时说过什么？",
  startAbout: "输入词语。点击结果即可打开录音并从该处播放。",
  nothing: "未找到",
  nothingAbout: "没有段落包含全部这些词。请减少词语，或在词首后加 *。",
  nothingMeaning: "没有含义相近的段落。请用完整的句子描述。",
  saved: "已存",
  save: "保存此搜索",
  forget: "删除此搜索",
  draft: "草稿",
  similar: "相近",
};
