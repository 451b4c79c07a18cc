// The list of scans that the server knows.

import { api } from "./api.js";
import { at, lineOf, make, say, when } from "./dom.js";

const STATES = { queued: "waiting", running: "at work", done: "done", failed: "failed", cancelled: "cancelled" };
const STAGES = { loading: "loading the model", reading: "reading the scan", network: "segmenting", writing: "writing the results" };
export const GONE = "The server does not answer. This page asks again by itself; if it stays so, tell whoever runs the server.";
export const ended = (job) => ["done", "failed", "cancelled"].includes(job.state);

/** What a job is doing, in one line. */
export function stateOf(job) {
  if (job.state === "queued") return job.position > 1 ? `Waiting, number ${job.position} in the queue` : "Waiting, next in the queue";
  if (job.stage === "cancelling") return "Being cancelled";
  if (job.state === "running") return `At work (${STAGES[job.stage] ?? STAGES.network}), ${Math.floor(10 * (job.progress ?? 0)) * 10} %`;
  return { done: "Done", failed: "Failed", cancelled: "Cancelled" }[job.state] ?? job.state;
}

export class Jobs {
  /** chosen(id) when one is opened, removed(id) when one is gone. */
  constructor({ chosen, removed }) {
    Object.assign(this, { chosen, removed, open: null, shown: "" });
  }

  /** Ask the server; true while something is still going on. */
  async refresh() {
    try {
      const jobs = await api.jobs();
      say(at("jobs-error"), "");
      this.show(jobs);
      return jobs.some((job) => !ended(job));
    } catch (error) {
      if (error.status === 401) throw error;
      say(at("jobs-error"), error.status ? lineOf(error) : GONE);
      return true;
    }
  }

  mark(id) {
    this.open = id;
    for (const item of at("jobs").children) item.firstElementChild.toggleAttribute("aria-current", item.dataset.id === id);
  }

  show(jobs) {
    const now = JSON.stringify(jobs.map((job) => [job.id, job.state, stateOf(job)]));
    if (now === this.shown) return; // nothing has changed: the focus stays where it is
    this.shown = now;
    const focused = document.activeElement?.closest?.("#jobs li")?.dataset.id, which = document.activeElement?.className;
    at("jobs").replaceChildren(...jobs.map((job) => this.item(job)));
    at("jobs-none").hidden = jobs.length > 0;
    this.mark(this.open);
    if (focused) at("jobs").querySelector(`[data-id="${CSS.escape(focused)}"] .${which}`)?.focus();
  }

  item(job) {
    const word = ended(job) ? "Remove" : "Cancel", warned = job.state === "done" && job.warnings?.length > 0;
    return make("li", { "data-id": job.id },
      make("button", { type: "button", class: "open", onclick: () => this.chosen(job.id) },
        make("span", { class: "file" }, job.name || job.id),
        make("span", { class: "row" }, make("span", { class: "muted" }, when(job.created, { timeStyle: "short" })),
          make("span", { class: `state ${warned ? "warned" : job.state}` }, warned ? "done, with warnings" : STATES[job.state] ?? job.state))),
      make("button", { type: "button", class: "quiet", "aria-label": `${word} ${job.name}`, title: word, onclick: () => this.remove(job) }, "×"));
  }

  async remove(job) {
    if (job.state === "done" && !confirm(`Remove ${job.name} with its label map from the server?`)) return;
    try {
      await (ended(job) ? api.remove : api.cancel)(job.id);
      this.removed(job.id, ended(job));
    } catch (error) {
      say(at("jobs-error"), lineOf(error));
    }
    await this.refresh();
  }
}
