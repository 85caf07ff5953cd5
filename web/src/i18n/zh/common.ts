import type { Messages } from "../en/index.js";

export const common: Messages["common"] = {
  close: "关闭",
  cancel: "取消",
  save: "保存",
  delete: "删除",
  undo: "撤销",
  rename: "重命名",
  copy: "复制",
  copied: "已复制",
  tryAgain: "重试",
  loading: "正在加载",
  more: "更多",
  loadMore: "显示更多",
  name: "名称",
  created: "创建时间",
  status: "状态",
  left: {
    seconds_one: "约剩 {{count}} 秒",
    seconds_other: "约剩 {{count}} 秒",
    minutes_one: "约剩 {{count}} 分钟",
    minutes_other: "约剩 {{count}} 分钟",
    hours_one: "约剩 {{count}} 小时",
    hours_other: "约剩 {{count}} 小时",
  },
};
