import type { Messages } from "../en/index.js";

export const usage: Messages["usage"] = {
  title: "用量",
  span: "时间范围",
  days_one: "最近 {{count}} 天",
  days_other: "最近 {{count}} 天",
  audio: "音频",
  recordings: "录音",
  uploaded: "已上传",
  empty: "这段时间没有转写",
  byDay: "每日音频",
  byModel: "按阶段与模型",
  stage: "阶段",
  model: "模型",
  quotas: "配额",
  unlimited: "不限",
  of: "/ {{limit}}",
  names: {
    audio_hours_month: "本月音频",
    stored_bytes: "已存储录音",
    jobs_at_once: "处理中的录音",
    requests_per_minute: "每分钟请求",
    event_streams: "打开的事件流",
  },
};
