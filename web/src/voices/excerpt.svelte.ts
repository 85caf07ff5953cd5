/** Plays a stretch of a recording in which a voice speaks. */
import { api, unwrap, type components } from "../api/index.svelte.js";
import { audioUrl } from "../api/media.js";

export class Excerpt {
  /** The id of the voice that is heard. */
  playing = $state<string | null>(null);
  heard = $state.raw<components["schemas"]["HeardView"] | null>(null);
  #audio: HTMLAudioElement | null = null;

  stop(): void {
    this.#audio?.pause();
    this.#audio = null;
    this.playing = null;
  }

  /** Begin, or stop what plays. Throws RangeError if the voice was heard nowhere, else ApiError. */
  async toggle(voice: string): Promise<void> {
    const again = this.playing === voice;
    this.stop();
    if (again) return;
    this.playing = voice;
    try {
      await this.#play(voice);
    } catch (error) {
      // a pause before anything was heard is no failure
      if (this.playing !== voice) return;
      this.stop();
      throw error;
    }
  }

  async #play(voice: string): Promise<void> {
    const params = { path: { voice_id: voice }, query: { limit: 1 } };
    const [heard] = (await unwrap(api.GET("/v1/voices/{voice_id}/heard", { params }))).data;
    if (heard === undefined) throw new RangeError("The voice was heard nowhere.");
    const audio = new Audio(`${await audioUrl(heard.job_id)}#t=${heard.start},${heard.end}`);
    if (this.playing !== voice) return;
    this.heard = heard;
    this.#audio = audio;
    audio.addEventListener("pause", () => this.#audio === audio && this.stop());
    await audio.play();
  }
}
