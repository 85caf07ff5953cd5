/** What `/ws/stream` says, as far as the page listens (docs/live.schemas.json). */

export interface Ack {
  type: "ack";
  job_id: string;
  /** Milliseconds of sound. */
  received: number;
  stored: number;
}

export interface Partial {
  type: "asr_partial";
  utterance: number;
  stable: string;
  unstable: string;
}

export interface Final {
  type: "asr_final";
  seq: number;
  utterance: number;
  text: string;
}

export interface Failure {
  type: "error";
  code: string;
  message: string;
  fatal: boolean;
}

export type Message = Ack | Partial | Final | Failure | { type: "lid"; language: string } | { type: "end" } | { type: "metrics" };
