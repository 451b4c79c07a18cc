// Correcting a label map by hand, and saving that.

import { api, keep, SCAN_ENDING } from "./api.js";
import { at, lineOf, make, say, swatch } from "./dom.js";
import { packed } from "./nifti.js";

const WIDEST = 25;
const NO_FOLDER = "This server keeps no corrections (--corrections): keep yours as a file.";
const COUNTED_MS = 250;

export class Pen {
  /** changed(voxels of each label) after each stroke; saved() once the server has the correction. */
  constructor(viewer, { changed, saved }) {
    Object.assign(this, { viewer, changed, saved, job: null, labels: [], unsaved: false, folder: true, counting: 0, strokes: 0, turn: {} });
    at("pen-on").addEventListener("click", () => this.toggle());
    at("brush").addEventListener("input", (event) => this.widen(Number(event.target.value) - this.viewer.pen.size));
    at("undo").addEventListener("click", () => this.undo());
    at("save").addEventListener("click", () => this.save());
    at("keep").addEventListener("click", async () => keep(new Blob([await packed(this.viewer.corrected())]), `${this.job.name.replace(SCAN_ENDING, "")}_corrected.nii.gz`));
    window.addEventListener("beforeunload", (event) => { if (this.unsaved) event.preventDefault(); });
  }

  /** A label map is shown that may be corrected; `folder`: the server has a data set that corrections go to. */
  offer(job, labels, folder) {
    Object.assign(this, { job, labels, folder });
    this.putAway();
    const pens = [...labels.keys()].slice(1).concat(0);
    at("pen-labels").replaceChildren(...pens.map((n) => make("label", {},
      make("input", { type: "radio", name: "pen", value: n, checked: n === 1, onchange: () => this.choose(n) }), ...(n ? [swatch(labels[n].colour), labels[n].name] : ["Eraser"]))));
    this.viewer.setPen({ on: false, label: labels.length > 1 ? 1 : 0 });
  }

  putAway() {
    clearTimeout(this.counting);
    this.turn = {}; // what is being saved is no longer what is seen
    this.unsaved = false;
    at("pen-tools").hidden = true;
    at("pen-on").setAttribute("aria-pressed", "false");
    say(at("pen-on"), "Take the pen");
    at("save").disabled = at("keep").disabled = at("undo").disabled = true;
    for (const id of ["pen-said", "pen-error"]) say(at(id), "");
    if (this.viewer.nv) this.viewer.setPen({ on: false });
  }

  toggle() {
    const on = !this.viewer.pen.on;
    this.viewer.setPen({ on });
    at("pen-tools").hidden = !on;
    at("pen-on").setAttribute("aria-pressed", String(on));
    say(at("pen-on"), on ? "Put the pen away" : "Take the pen");
    say(at("pen-said"), on ? [this.folder ? "" : NO_FOLDER, "Draw on a slice, or with Space at the cross."].join(" ").trim() : "");
  }

  choose(n) {
    if (n >= this.labels.length) return;
    this.viewer.setPen({ label: n });
    at("pen-labels").querySelector(`input[value="${n}"]`).checked = true;
  }

  widen(by) {
    const size = Math.min(WIDEST, Math.max(1, this.viewer.pen.size + by));
    this.viewer.setPen({ size });
    at("brush").value = size;
    say(at("brush-size"), String(size));
  }

  dab() { if (this.viewer.pen.on) this.viewer.dab(); }

  undo() { this.viewer.undo(); }

  drawn() {
    this.strokes++;
    this.unsaved = true; // after an undo, too: what was saved may have been undone
    at("undo").disabled = this.viewer.strokes === 0;
    at("save").disabled = !this.folder;
    at("keep").disabled = false;
    say(at("pen-said"), this.folder ? "Not saved yet." : NO_FOLDER);
    clearTimeout(this.counting);
    this.counting = setTimeout(() => this.changed(this.viewer.counts()), COUNTED_MS); // not after each of many quick strokes
  }

  async save() {
    const { job, strokes, turn } = this;
    at("save").disabled = true;
    say(at("pen-error"), "");
    say(at("pen-said"), "Saving ...");
    try {
      await api.saveCorrection(job.id, await packed(this.viewer.corrected()));
      if (this.turn !== turn) return; // another label map is seen now, whose strokes are not saved
      this.unsaved = this.strokes !== strokes;
      at("save").disabled = !this.unsaved;
      say(at("pen-said"), this.unsaved ? "Saved, but not what was drawn since." : "Saved: the scan and this label map are in the data set.");
      this.saved();
    } catch (error) {
      if (this.turn !== turn) { alert(`The correction of ${job.name} is not saved: ${lineOf(error)}`); return; }
      say(at("pen-said"), "");
      say(at("pen-error"), lineOf(error));
      at("save").disabled = false;
    }
  }
}
