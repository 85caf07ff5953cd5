import type { Messages } from "../en/index.js";

export const shell: Messages["shell"] = {
  pages: {
    home: "录音",
    search: "搜索",
    voices: "声音",
    vocabulary: "词汇",
    training: "模型",
    usage: "用量",
    keys: "密钥",
    queues: "队列",
  },
  navigation: "页面",
  skip: "跳到正文",
  docs: "API",
  theme: "主题",
  themes: { system: "跟随系统", light: "浅色", dark: "深色" },
  language: "语言",
  signOut: "退出登录",
  signIn: "登录",
  signInAbout: "此服务器需要 API 密钥，请向管理员索取。",
  key: "API 密钥",
  keyMissing: "请输入密钥。",
  remember: "保持登录",
  rememberHint: "否则关闭此标签页后密钥即被遗忘。",
  notFound: "未找到",
  notFoundAbout: "没有这个页面。",
};
