// One job: how far it is, and what came out.

import { api, keep, SCAN_ENDING } from "./api.js";
import { at, lineOf, make, say, swatch, when } from "./dom.js";
import { ended, stateOf } from "./jobs.js";
import { Pen } from "./pen.js";
import { Viewer } from "./viewer.js";
import { told } from "./warnings.js";

const FORMATS = { nifti: "Label map (NIfTI)", json: "Volumes (JSON)", "dicom-seg": "DICOM-SEG", rtstruct: "RTSTRUCT", sr: "Report (DICOM SR)", corrected: "Corrected label map (NIfTI)" };
const ENDINGS = { nifti: ".nii.gz", json: ".json", "dicom-seg": "_seg.dcm", rtstruct: "_rtstruct.dcm", sr: "_sr.dcm", corrected: "_corrected.nii.gz" };

const STEPS = 1000; // of a slider
const short = (value) => String(Number(value.toPrecision(3)));

export class Result {
  /** models() gives what the server serves. */
  constructor(models) {
    this.models = models;
    this.job = null;
    this.turns = {}; // of each box, what was chosen last
    this.viewer = new Viewer(at("scan"), { moved: (place) => this.where(place), drawn: () => this.pen.drawn(), ranged: () => this.showRange() });
    this.pen = new Pen(this.viewer, { changed: (voxels) => this.volumes(voxels), saved: () => this.isCorrected() });
    this.listen();
  }

  /** Show a job; asked again as it goes on. The picture is read once, when it is done. */
  async show(job) {
    const before = this.job;
    const another = before?.id !== job.id;
    this.job = job;
    at("welcome").hidden = true;
    at("job").hidden = false;
    at("columns").classList.add("has-job");
    say(at("job-name"), job.name || job.id);
    say(at("job-facts"), [`${job.model} ${job.version}`, `sent ${when(job.created, { dateStyle: "medium", timeStyle: "short" })}`, job.seconds ? `${ended(job) ? "took " : ""}${job.seconds.toFixed(1)} s${ended(job) ? "" : " so far"}` : ""].filter(Boolean).join(", "));
    say(at("job-error"), job.error ?? "");
    say(at("job-state"), stateOf(job));
    at("job-bar").value = job.progress ?? 0;
    at("job-bar").hidden = ended(job);
    at("job-progress").hidden = ["failed", "done"].includes(job.state);
    at("job-cancel").hidden = ended(job);
    if (another) this.clear();
    if (job.state === "done" && (another || before.state !== "done")) await this.finish(job);
  }

  clear() {
    this.turns = {};
    at("viewer").hidden = at("downloads").hidden = true;
    at("job-warnings").replaceChildren();
    at("labels").replaceChildren();
    at("labels").dataset.job = "";
    this.viewer.hidden.clear();
    this.pen.putAway();
  }

  close() {
    this.job = null;
    this.clear();
    at("job").hidden = true;
    at("columns").classList.remove("has-job");
    at("welcome").hidden = false;
  }

  async finish(job) {
    at("job-warnings").replaceChildren(...told(job.warnings ?? []));
    say(at("job-notice"), job.not_for_diagnosis ?? "");
    at("formats").replaceChildren(...Object.entries(job.results ?? {}).filter(([, url]) => url).map(([format, url]) => this.download(format, url)));
    at("downloads").hidden = false;
    const model = this.models().find((one) => one.id === job.model);
    const maker = model?.sha256 === job.model_sha256 ? model : null; // another file may mean other structures by the same values
    this.labels = backgroundFirst(maker?.labels ?? job.volumes ?? []);
    at("channel").replaceChildren(...(model?.channels ?? []).map((name, n) => make("option", { value: n }, name)));
    at("channel-box").hidden = (model?.channels.length ?? 1) < 2;
    at("which").replaceChildren(make("option", { value: "predicted" }, "as predicted"));
    const corrected = await this.correction(job);
    if (this.job?.id !== job.id) return;
    for (const id of ["channel", "which"]) at(id).dataset.shown = at(id).value;
    if (corrected) this.isCorrected();
    await this.picture(corrected);
  }

  // There is a correction on the server, and it is what is seen.
  isCorrected() {
    if (at("which").options.length === 1) {
      at("which").append(make("option", { value: "corrected" }, "as corrected"));
      at("formats").append(this.download("corrected", `/v1/jobs/${this.job.id}/correction`));
    }
    at("which").value = at("which").dataset.shown = "corrected";
  }

  // The correction of this job; null where there is none, or none can be.
  async correction(job) {
    try {
      this.folder = true;
      return await api.correction(job.id);
    } catch (error) {
      this.folder = error.status !== 409; // the server was given no folder for corrections
      if ([404, 409].includes(error.status)) return null;
      throw error;
    }
  }

  async picture(map = null) {
    const job = this.job;
    at("viewer").hidden = false; // a canvas that is hidden has no size
    at("viewer").setAttribute("aria-busy", "true"); // the picture of another job is not to be seen, nor drawn on, under this one's name
    at("viewer").inert = true;
    try {
      const bytes = await Promise.all([api.bytes(this.imageUrl()), map ?? api.bytes(job.results.nifti)]);
      if (this.job?.id !== job.id) return;
      this.isPicture = Boolean(this.models().find((one) => one.id === job.model)?.pictures);
      await this.viewer.open(...bytes, this.labels, this.isPicture);
      if (this.job?.id !== job.id) return; // the other one is being opened now
      this.viewer.setOpacity(at("opacity").value / 100); // a browser may have kept what was chosen before
      this.viewer.setRadiological(at("convention").value === "radiological");
      at("convention").parentElement.hidden = at("views").hidden = this.isPicture;
      this.setView(this.viewer.onlyPlane ?? "all");
      this.volumes(this.viewer.counts());
      this.pen.offer(job, this.labels, this.folder);
    } catch (error) {
      if (this.job?.id !== job.id) return;
      at("viewer").hidden = true;
      say(at("job-error"), `${job.name}: ${lineOf(error)}`);
    } finally {
      if (this.job?.id === job.id) {
        at("viewer").removeAttribute("aria-busy");
        at("viewer").inert = false;
      }
    }
  }

  imageUrl() {
    const channel = Number(at("channel").value || 0);
    return channel ? `${this.job.image}?channel=${channel}` : this.job.image;
  }

  download(format, url) {
    const name = `${this.job.name.replace(SCAN_ENDING, "") || "labels"}${ENDINGS[format] ?? ""}`;
    const link = make("a", { class: "button", href: url, download: name }, FORMATS[format] ?? format);
    link.addEventListener("click", async (event) => {
      event.preventDefault(); // a plain link shows no token, and takes the server's name of the file for the scan's
      try {
        keep(await api.blob(url), name);
      } catch (error) {
        say(at("job-error"), lineOf(error));
      }
    });
    return link;
  }

  // The table of labels: of the file, and anew with each stroke of the pen.
  volumes(voxels) {
    say(at("unit"), this.isPicture ? "pixels" : "ml");
    const ml = (count) => (this.isPicture ? String(count) : (count * this.viewer.voxelMl).toLocaleString("en", { maximumSignificantDigits: 4 }));
    const rows = this.labels.map((label, n) => ({ label, n })).slice(1);
    if (at("labels").children.length === rows.length && at("labels").dataset.job === this.job.id) {
      rows.forEach(({ n }) => say(at(`ml-${n}`), ml(voxels[n])));
      return;
    }
    at("labels").dataset.job = this.job.id;
    at("labels").replaceChildren(...rows.map(({ label, n }) => make("tr", {},
      make("td", {}, make("input", { type: "checkbox", id: `show-${n}`, checked: !this.viewer.hidden.has(n), onchange: (event) => this.viewer.setVisible(n, event.target.checked) })),
      make("td", {}, make("label", { for: `show-${n}` }, swatch(label.colour), label.name)),
      make("td", { class: "number", id: `ml-${n}` }, ml(voxels[n])))));
  }

  where({ voxel, mm, value, label }) {
    const [x, y, z] = mm.map((one, axis) => `${Math.abs(one).toFixed(1)} ${"LRPAIS"[2 * axis + (one >= 0 ? 1 : 0)]}`);
    const name = label && label !== this.labels[0] ? label.name : "no label";
    const place = this.isPicture ? `row ${this.viewer.dims[1] - 1 - voxel[1]}, column ${voxel[0]}` : `${x}, ${y}, ${z} mm`;
    say(at("where"), `${place} · value ${Number(value).toPrecision(4)} · ${name}`);
    at("where").dataset.voxel = voxel.join(" ");
  }

  listen() {
    at("job-cancel").addEventListener("click", async () => {
      try {
        await api.cancel(this.job.id);
      } catch (error) {
        say(at("job-error"), lineOf(error));
      }
    });
    at("views").addEventListener("click", (event) => event.target.dataset.view && this.setView(event.target.dataset.view));
    at("convention").addEventListener("change", (event) => this.viewer.setRadiological(event.target.value === "radiological"));
    at("opacity").addEventListener("input", (event) => this.viewer.setOpacity(event.target.value / 100));
    for (const id of ["dark", "bright"]) at(id).addEventListener("input", () => this.setRange());
    at("channel").addEventListener("change", () => this.chosen("channel", () => api.bytes(this.imageUrl()), (bytes) => this.viewer.changeScan(bytes)));
    at("which").addEventListener("change", () => {
      if (this.pen.unsaved && !confirm("The correction is not saved. Leave it?")) { at("which").value = at("which").dataset.shown; return; }
      const corrected = at("which").value === "corrected";
      this.chosen("which", async () => (corrected ? api.correction(this.job.id) : null), (map) => this.picture(map));
    });
    at("scan").parentElement.addEventListener("keydown", (event) => this.key(event), { capture: true });
  }

  // What was chosen last is shown: not what comes late, when another job is open or the box says something else.
  async chosen(id, read, show) {
    const turn = this.turns[id] = {}, value = at(id).value;
    try {
      const bytes = await read();
      if (this.turns[id] !== turn) return;
      await show(bytes);
      if (this.turns[id] === turn) at(id).dataset.shown = value;
    } catch (error) {
      if (this.turns[id] !== turn) return;
      at(id).value = at(id).dataset.shown;
      say(at("job-error"), lineOf(error));
    }
  }

  setView(name) {
    for (const button of at("views").children) button.setAttribute("aria-pressed", String(button.dataset.view === name));
    this.viewer.setView(name);
  }

  setRange() {
    const { least, most } = this.viewer.range;
    const value = (id) => least + (at(id).value / STEPS) * (most - least);
    this.viewer.setRange(value("dark"), value("bright"));
  }

  // The sliders say what is seen, also of another scan, or after the mouse has changed it.
  showRange() {
    const { low, high, least, most } = this.viewer.range, width = most - least || 1;
    for (const [id, value] of [["dark", low], ["bright", high]]) {
      at(id).value = Math.round((STEPS * (value - least)) / width);
      at(id).setAttribute("aria-valuetext", short(value));
      say(at(`${id}-value`), short(value));
    }
  }

  // Keys of the scan alone, so that they take nothing from those of a screen reader. NiiVue's own are kept from it.
  key(event) {
    if (event.ctrlKey || event.altKey || event.metaKey) return;
    const key = event.key.length === 1 ? event.key.toLowerCase() : event.key;
    const act = this.actions()[key] ?? (/^[0-9]$/.test(key) ? () => this.pen.choose(Number(key)) : null);
    if (key !== "Tab") event.stopPropagation();
    if (!act) return;
    event.preventDefault();
    act();
  }

  actions() {
    const { viewer, pen } = this;
    return {
      ArrowLeft: () => viewer.step(-1, 0, 0), ArrowRight: () => viewer.step(1, 0, 0), ArrowUp: () => viewer.step(0, -1, 0), ArrowDown: () => viewer.step(0, 1, 0),
      PageUp: () => viewer.step(0, 0, 1), PageDown: () => viewer.step(0, 0, -1), Escape: () => at("pen-on").focus(),
      a: () => this.setView("axial"), c: () => this.setView("coronal"), s: () => this.setView("sagittal"),
      f: () => this.setView(viewer.view === "all" ? viewer.plane : "all"),
      h: () => this.hideAll(), p: () => pen.toggle(), u: () => pen.undo(), " ": () => pen.dab(), "+": () => pen.widen(2), "=": () => pen.widen(2), "-": () => pen.widen(-2),
    };
  }

  hideAll() {
    const boxes = [...at("labels").querySelectorAll("input")];
    const show = boxes.every((box) => !box.checked);
    for (const box of boxes) {
      box.checked = show;
      box.dispatchEvent(new Event("change"));
    }
  }
}

// The drawing's 0 is the background; a service may leave it out of its list.
function backgroundFirst(labels) {
  const nothing = labels.find((label) => label.name === "background") ?? labels.find((label) => label.value === 0);
  return [nothing ?? { value: 0, name: "background", colour: [0, 0, 0] }, ...labels.filter((label) => label !== nothing)];
}
