import type { Messages } from "../en/index.js";

export const queues: Messages["queues"] = {
  title: "队列",
  workers_one: "{{count}} 个工作进程",
  workers_other: "{{count}} 个工作进程",
  workersUnknown: "工作进程数未知",
  kind: "步骤",
  waiting: "等待",
  delayed: "稍后",
  running: "处理中",
  oldest: "最久等待",
  drain: "预计清空",
  unknown: "尚不可知",
};
