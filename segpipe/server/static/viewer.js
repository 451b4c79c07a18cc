// The scan with its labels: NiiVue draws, this module says what. NiiVue gets voxels in RAS order with straight axes, and the label map as its
// drawing, each voxel holding the label's place in the model's list; what is seen is what a correction saves.

import { apart, fromRas, orientation, parse, rasAffine, straight, toRas, TOLERANCE_MM, unpacked, voxelsOf, withVoxels, world } from "./nifti.js";

const MOST_LABELS = 255; // a drawing has a byte a voxel
const MOST_QUICK = 1024;
const SIDES = [["L", "R"], ["P", "A"], ["I", "S"]];
const OBLIQUE_SHARE = 0.2; // sine of about 12 degrees: from there on a side gets a second letter
export const PLANES = ["axial", "coronal", "sagittal"];
const PICTURE = { axes: [1, 0, 2], flips: [false, true, false] }; // rows downwards, columns to the right: no patient, so no sides
const WINDOWING = 9; // of the right mouse button: across how much contrast, up and down how bright, as at a workstation
const GHOST = 0.35;
const VIEWS = { axial: 0, coronal: 1, sagittal: 2, all: 3, solid: 4 };

let library = null;

/** NiiVue, read when the first result is shown: it is most of the page's size. */
function niivue() {
  library ??= import("./vendor/niivue.umd.js").then(() => globalThis.niivue);
  return library;
}

/** Values of a label map as places in `labels` (0: nothing); what the list does not have is an error. */
function places(values, labels) {
  if (labels.length > MOST_LABELS + 1) throw new Error(`${labels.length - 1} labels are more than a browser can show (${MOST_LABELS}); download them`);
  const place = new Map(labels.map((label, n) => [label.value, n]));
  const quick = new Int16Array(MOST_QUICK).fill(-1); // a scan has millions of voxels, and most values are small
  for (const [value, n] of place) if (value >= 0 && value < MOST_QUICK) quick[value] = n;
  const result = new Uint8Array(values.length);
  for (let v = 0; v < values.length; v++) {
    const value = values[v], n = quick[value] ?? place.get(value) ?? -1;
    if (n < 0) throw new Error(`the label map has the value ${value}, which the model does not know; download it instead`);
    result[v] = n;
  }
  return result;
}

export class Viewer {
  /**
   * canvas: focusable; its parent holds the letters, too.
   * on: {moved({voxel, mm, value, label}), drawn(), ranged()}; the last where the brightness has changed.
   */
  constructor(canvas, on) {
    this.canvas = canvas;
    this.on = on;
    this.plane = "axial";
    this.view = "all";
    this.hidden = new Set();
    this.strokes = 0;
    this.before = Promise.resolve();
    this.pen = { on: false, label: 1, size: 1 };
    canvas.viewer = this; // for scripts and tests
    canvas.parentElement.addEventListener("dblclick", (event) => { if (this.pen.on) event.stopPropagation(); }, { capture: true }); // two quick strokes
  }

  /**
   * Show a scan and its label map (NIfTI bytes, packed or not); `labels` as the model lists them, the background first.
   * picture: it was no scan of a patient; it is shown upright, without sides.
   */
  open(...words) { return this.inTurn(() => this.show(...words)); }

  /** Another channel of the same scan; the drawing stays. */
  changeScan(bytes) { return this.inTurn(() => this.swap(bytes)); }

  // One after the other: two at once could put the labels of one scan over another.
  inTurn(what) {
    const done = this.before.then(what);
    this.before = done.catch(() => null); // who asked for it is told by `done`
    return done;
  }

  async show(scanBytes, mapBytes, labels, picture = false) {
    const [scan, map] = [parse(await unpacked(scanBytes)), parse(await unpacked(mapBytes))];
    this.check(scan, map);
    this.file = map;
    this.labels = labels;
    this.picture = picture;
    this.turn = picture ? PICTURE : orientation(map.affine);
    this.affine = rasAffine(map.affine, map.dims, this.turn);
    const indices = places(voxelsOf(map), labels);
    const shown = toRas(indices, map.dims, this.turn);
    this.dims = shown.dims;
    this.spacing = [0, 1, 2].map((axis) => Math.hypot(...this.affine.map((row) => row[axis])));
    await this.start();
    await this.showScan(scan);
    this.strokes = 0;
    this.nv.createEmptyDrawing();
    this.putDrawing(shown.array);
    this.prove(indices);
    this.colour();
    this.toMiddle(shown.array);
  }

  check(scan, map) {
    if (scan.dims.some((size, axis) => size !== map.dims[axis])) {
      throw new Error(`the scan has ${scan.dims.join("x")} voxels and the label map ${map.dims.join("x")}; they cannot be shown together`);
    }
    const off = scan.placed ? apart(scan.affine, map.affine, map.dims) : 0;
    if (off > TOLERANCE_MM) throw new Error(`the label map lies ${off.toPrecision(2)} mm beside the scan; do not use it, and report this`);
  }

  async start() {
    if (this.nv) return;
    const { Niivue } = await niivue();
    this.nv = new Niivue({
      dragAndDropEnabled: false, isOrientationTextVisible: false, isRadiologicalConvention: true, sagittalNoseLeft: true, isNearestInterpolation: false,
      backColor: [0, 0, 0, 1], crosshairColor: [0.35, 0.75, 0.8, 0.9], crosshairWidth: 0.3, crosshairWidthUnit: "percent", show3Dcrosshair: false, isOrientCube: true,
      multiplanarShowRender: 0, multiplanarPadPixels: 4, maxDrawUndoBitmaps: 16, viewModeHotKey: "", clipPlaneHotKey: "", cycleClipPlaneHotKey: "",
      dragMode: WINDOWING, loadingText: "", logLevel: "error", isAlphaClipDark: true,
    });
    await this.nv.attachToCanvas(this.canvas, false);
    this.solid = !drawsWithProcessor(this.nv.gl);
    this.showSolid();
    this.nv.onLocationChange = () => this.moved();
    this.nv.onMouseUp = () => this.letters();
    this.nv.onDrawingChanged = (action) => { if (action === "draw") this.drew(); };
    const drawScene = this.nv.drawScene.bind(this.nv);
    this.nv.drawScene = (...words) => { this.ghost(); const done = drawScene(...words); this.letters(); this.tellRange(); return done; };
  }

  async showScan(scan) {
    const { NVImage } = await niivue();
    const voxels = toRas(voxelsOf(scan), scan.dims, this.turn);
    const bytes = straight(voxels.array, voxels.dims, this.spacing, scan.slope, scan.inter);
    const image = await NVImage.new(bytes, "scan.nii");
    if (image.permRAS.some((axis, n) => axis !== n + 1)) throw new Error("the viewer turned the scan; do not use what it shows, and report this");
    while (this.nv.volumes.length) this.nv.removeVolumeByIndex(0);
    this.nv.addVolume(image);
  }

  async swap(bytes) {
    const scan = parse(await unpacked(bytes));
    this.check(scan, this.file);
    const drawing = this.nv.drawBitmap.slice();
    await this.showScan(scan);
    this.nv.createEmptyDrawing();
    this.strokes = 0;
    this.putDrawing(drawing);
    this.colour();
  }

  putDrawing(array) {
    this.nv.drawBitmap.set(array);
    this.nv.drawAddUndoBitmap();
    this.nv.refreshDrawing(true);
  }

  // What a correction would save must be the label map as it came, before anybody draws.
  prove(indices) {
    const back = fromRas(this.nv.drawBitmap, this.file.dims, this.turn);
    for (let v = 0; v < indices.length; v++) {
      if (back[v] !== indices[v]) throw new Error("the viewer changed the label map; do not use what it shows, and report this");
    }
  }

  /** The label map as drawn: a NIfTI file like the one that was opened, header and all, in ArrayBuffer. */
  corrected() {
    const indices = fromRas(this.nv.drawBitmap, this.file.dims, this.turn);
    const values = new Float64Array(indices.length);
    for (let v = 0; v < indices.length; v++) values[v] = this.labels[indices[v]].value;
    return withVoxels(this.file, values);
  }

  /** Voxels of each label as drawn now, in the order of the labels. */
  counts() {
    const found = new Float64Array(MOST_LABELS + 1), drawing = this.nv.drawBitmap;
    for (let v = 0; v < drawing.length; v++) found[drawing[v]]++;
    return [...found.subarray(0, this.labels.length)];
  }

  get voxelMl() {
    const [a, b, c] = [0, 1, 2].map((axis) => this.affine.map((row) => row[axis]));
    const cross = [b[1] * c[2] - b[2] * c[1], b[2] * c[0] - b[0] * c[2], b[0] * c[1] - b[1] * c[0]];
    return Math.abs(a[0] * cross[0] + a[1] * cross[1] + a[2] * cross[2]) / 1000;
  }

  // ------------------------------------------------------------------------------------------------------------ how it looks

  colour() {
    const column = (channel) => this.labels.map((label) => label.colour[channel]);
    const alpha = this.labels.map((_, n) => (n === 0 || this.hidden.has(n) ? 0 : 255));
    this.nv.setDrawColormap({ R: column(0), G: column(1), B: column(2), A: alpha, I: alpha.map((_, n) => n), labels: this.labels.map((l) => l.name) });
  }

  setVisible(index, visible) {
    if (visible) this.hidden.delete(index); else this.hidden.add(index);
    this.colour();
  }

  setOpacity(share) { this.nv.setDrawOpacity(share); }

  /** Brightness of the scan, in its own values, which are from `least` to `most`: black at `low`, white at `high`. */
  get range() {
    const scan = this.nv.volumes[0];
    return { low: scan.cal_min, high: scan.cal_max, least: scan.global_min, most: scan.global_max };
  }

  // Sliders, the mouse and another scan change it; NiiVue tells of none of them.
  tellRange() {
    if (!this.nv.volumes.length) return;
    const now = Object.values(this.range).join(" ");
    if (now !== this.toldRange) this.on.ranged();
    this.toldRange = now;
  }

  setRange(low, high) {
    Object.assign(this.nv.volumes[0], { cal_min: low, cal_max: Math.max(high, low + 1e-6) });
    this.nv.updateGLVolume();
  }

  setRadiological(yes) { this.nv.setRadiologicalConvention(yes && !this.picture); }

  /** The plane of a scan with a single slice; null where there are more. */
  get onlyPlane() { return ["sagittal", "coronal", "axial"][this.dims.indexOf(1)] ?? null; }

  setView(name) {
    this.view = name;
    if (PLANES.includes(name)) this.plane = name;
    this.nv.setSliceType(VIEWS[name]);
  }

  /** One letter or two at each side of each slice, from where its edges really lie in the patient. */
  letters() {
    const box = this.canvas.parentElement, scale = this.canvas.width / Math.max(1, this.canvas.clientWidth);
    box.querySelectorAll(".side").forEach((letter) => letter.remove());
    if (!this.affine || this.picture || !this.nv.volumes.length) return;
    for (const slice of this.nv.screenSlices) {
      if (slice.axCorSag > 2) continue;
      const [left, top, width, height] = slice.leftTopWidthHeight;
      const [cx, cy] = [left + width / 2, top + height / 2];
      const across = this.direction([cx - 2, cy], [cx + 2, cy]), down = this.direction([cx, cy - 2], [cx, cy + 2]);
      if (!across || !down) continue;
      const opposite = (mm) => mm.map((value) => -value);
      for (const [name, mm, x, y] of [["left", opposite(across), left, cy], ["right", across, left + width, cy],
        ["top", opposite(down), cx, top], ["bottom", down, cx, top + height]]) {
        const letter = document.createElement("span");
        letter.className = `side ${name}`;
        letter.dataset.plane = PLANES[slice.axCorSag];
        letter.textContent = side(mm);
        letter.style.left = `${x / scale}px`;
        letter.style.top = `${y / scale}px`;
        box.append(letter);
      }
    }
  }

  // From one place on the screen to another, in the patient: a unit vector in mm, RAS+; null outside the slices.
  direction(from, to) {
    const [a, b] = [from, to].map((place) => this.nv.canvasPos2frac(place));
    if (a[0] < 0 || b[0] < 0) return null;
    const [p, q] = [a, b].map((frac) => world(this.affine, [...frac].map((share, axis) => share * this.dims[axis] - 0.5)));
    const length = Math.hypot(q[0] - p[0], q[1] - p[1], q[2] - p[2]);
    return length ? [0, 1, 2].map((axis) => (q[axis] - p[axis]) / length) : null;
  }

  // ------------------------------------------------------------------------------------------------------- crosshair and pen

  get voxel() {
    return [...this.nv.frac2vox(this.nv.scene.crosshairPos)].map((index, axis) => Math.min(this.dims[axis] - 1, Math.max(0, Math.round(index))));
  }

  /** Put the crosshair on a voxel, in RAS order. */
  goTo(voxel) {
    const inside = voxel.map((index, axis) => Math.min(this.dims[axis] - 1, Math.max(0, index)));
    this.nv.scene.crosshairPos = inside.map((index, axis) => (index + 0.5) / this.dims[axis]);
    this.nv.drawScene();
    this.moved();
  }

  /** Steps on the screen: to the right, down, and through the slices, in the plane in hand. */
  step(right, down, through) {
    const mirrored = this.nv.opts.isRadiologicalConvention ? -1 : 1;
    const [x, y, z] = { axial: [0, 1, 2], coronal: [0, 2, 1], sagittal: [1, 2, 0] }[this.plane];
    const voxel = this.voxel;
    voxel[x] += right * (this.plane === "sagittal" ? -1 : mirrored); // a sagittal slice is seen from the left
    voxel[y] -= down;
    voxel[z] += through;
    this.goTo(voxel);
  }

  // The cross in the middle of all that is labelled.
  toMiddle(indices) {
    const [I, J, K] = this.dims, sums = [0, 0, 0];
    let count = 0;
    for (let k = 0, v = 0; k < K; k++) {
      for (let j = 0; j < J; j++) {
        for (let i = 0; i < I; i++, v++) {
          if (indices[v] === 0) continue;
          sums[0] += i;
          sums[1] += j;
          sums[2] += k;
          count++;
        }
      }
    }
    this.goTo(this.dims.map((size, axis) => Math.round(count ? sums[axis] / count : (size - 1) / 2)));
  }

  moved() {
    const voxel = this.voxel, [i, j, k] = voxel;
    const index = this.nv.drawBitmap?.[i + this.dims[0] * (j + this.dims[1] * k)] ?? 0;
    this.on.moved({ voxel, mm: world(this.affine, voxel), value: this.nv.volumes[0]?.getValue(i, j, k), label: this.labels[index] });
  }

  setPen({ on = this.pen.on, label = this.pen.label, size = this.pen.size }) {
    this.pen = { on, label, size };
    this.nv.opts.penSize = size;
    this.nv.setPenValue(label, false);
    this.nv.setDrawingEnabled(on);
    this.showSolid();
    this.nv.drawScene();
  }

  // The solid beside the planes is drawn anew with each step and stroke: not for a pen, nor where the processor draws it.
  showSolid() { this.nv.opts.multiplanarShowRender = this.solid && !this.pen.on ? 1 : 0; }

  // In 3D the scan is a shadow around the labels: as opaque as in the planes it would hide them, and wash out their colours.
  ghost() {
    const { gl, renderShader } = this.nv;
    if (!renderShader) return;
    renderShader.use(gl);
    gl.uniform1f(renderShader.uniforms.backOpacity, GHOST);
  }

  /** Draw at the crosshair, in the plane in hand: the pen for those who use no mouse. */
  dab() {
    this.nv.drawPenAxCorSag = PLANES.indexOf(this.plane);
    this.nv.drawPt(...this.voxel, this.pen.label);
    this.nv.drawPenAxCorSag = -1;
    this.nv.drawAddUndoBitmap();
    this.nv.refreshDrawing(true);
    this.drew();
  }

  drew() {
    this.strokes = Math.min(this.strokes + 1, this.nv.opts.maxDrawUndoBitmaps - 1);
    this.on.drawn();
  }

  undo() {
    if (this.strokes === 0) return;
    this.strokes--;
    this.nv.drawUndo();
    this.on.drawn();
  }
}

function drawsWithProcessor(gl) {
  const told = gl.getExtension("WEBGL_debug_renderer_info");
  return /swiftshader|llvmpipe|softpipe|software/i.test(String(gl.getParameter(told ? told.UNMASKED_RENDERER_WEBGL : gl.RENDERER)));
}

function side(mm) {
  const axes = [0, 1, 2].filter((axis) => Math.abs(mm[axis]) > OBLIQUE_SHARE).sort((a, b) => Math.abs(mm[b]) - Math.abs(mm[a]));
  return axes.slice(0, 2).map((axis) => SIDES[axis][mm[axis] > 0 ? 1 : 0]).join("");
}
