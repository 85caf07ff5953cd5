export const queues = {
  title: "Queues",
  workers_one: "{{count}} worker",
  workers_other: "{{count}} workers",
  workersUnknown: "workers unknown",
  kind: "Step",
  waiting: "Waiting",
  delayed: "Later",
  running: "In work",
  oldest: "Oldest waits",
  drain: "Done in",
  unknown: "not known yet",
} as const;
