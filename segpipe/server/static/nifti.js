// NIfTI files and the order of their voxels. All that says where a voxel lies in the patient is in this file and in no library: the page
// shows voxels in the order closest to RAS (x to the right, y forwards, z upwards), and puts corrections back in the file's own order.

const KINDS = {
  2: Uint8Array, 4: Int16Array, 8: Int32Array, 16: Float32Array, 64: Float64Array,
  256: Int8Array, 512: Uint16Array, 768: Uint32Array, 1024: BigInt64Array, 1280: BigUint64Array,
};
const PUT = {
  2: "setUint8", 4: "setInt16", 8: "setInt32", 16: "setFloat32", 64: "setFloat64",
  256: "setInt8", 512: "setUint16", 768: "setUint32", 1024: "setBigInt64", 1280: "setBigUint64",
};
const COLOURS = 128; // three bytes a voxel
const UNIT_MM = { 1: 1000, 3: 0.001 };
const HEADER_BYTES = 352;
export const TOLERANCE_MM = 0.1;

/** The bytes of a NIfTI file, unpacked where gzip has packed them. */
export async function unpacked(buffer) {
  const start = new Uint8Array(buffer, 0, Math.min(2, buffer.byteLength));
  if (start[0] !== 0x1f || start[1] !== 0x8b) return buffer;
  return new Response(new Blob([buffer]).stream().pipeThrough(new DecompressionStream("gzip"))).arrayBuffer();
}

/** The same bytes, packed by gzip. */
export async function packed(buffer) {
  return new Response(new Blob([buffer]).stream().pipeThrough(new CompressionStream("gzip"))).arrayBuffer();
}

/**
 * What a NIfTI-1 or NIfTI-2 file says: {buffer, little, dims: [I, J, K], count (volumes), kind, offset, slope, inter, affine, placed}.
 * `affine` is three rows of four, in mm, from voxel indices to RAS+; `placed` is false where the header does not say it.
 */
export function parse(buffer) {
  const view = new DataView(buffer);
  const little = [348, 540].includes(buffer.byteLength >= HEADER_BYTES ? view.getInt32(0, true) : 0);
  const size = buffer.byteLength >= HEADER_BYTES ? view.getInt32(0, little) : 0;
  if (size !== 348 && size !== 540) throw new Error("the server sent something that is no NIfTI file; open the page again");
  const fields = size === 348 ? fields1(view, little) : fields2(view, little);
  const voxels = fields.dims.reduce((a, b) => a * b, 1);
  const width = fields.kind === COLOURS ? 3 : KINDS[fields.kind]?.BYTES_PER_ELEMENT;
  if (!width) throw new Error(`its voxels have type ${fields.kind}, which a browser cannot show; download it instead`);
  if (fields.offset + voxels * width * fields.count > buffer.byteLength) throw new Error("the file is cut short; open the page again");
  return { buffer, little, width, ...fields };
}

function fields1(view, little) {
  const short = (at) => view.getInt16(at, little), float = (at) => view.getFloat32(at, little);
  const sizes = (i) => (i <= short(40) ? Math.max(1, short(40 + 2 * i)) : 1);
  return {
    dims: [1, 2, 3].map(sizes), count: sizes(4) * sizes(5), kind: short(70), offset: Math.max(HEADER_BYTES, float(108)),
    ...scaled(float(112), float(116)),
    ...place(short(252), short(254), [...Array(12).keys()].map((i) => float(280 + 4 * i)),
      [...Array(6).keys()].map((i) => float(256 + 4 * i)), [...Array(4).keys()].map((i) => float(76 + 4 * i)), view.getUint8(123)),
  };
}

function fields2(view, little) {
  const long = (at) => Number(view.getBigInt64(at, little)), double = (at) => view.getFloat64(at, little);
  const sizes = (i) => (i <= long(16) ? Math.max(1, long(16 + 8 * i)) : 1);
  return {
    dims: [1, 2, 3].map(sizes), count: sizes(4) * sizes(5), kind: view.getInt16(12, little), offset: long(168),
    ...scaled(double(176), double(184)),
    ...place(view.getInt32(344, little), view.getInt32(348, little), [...Array(12).keys()].map((i) => double(400 + 8 * i)),
      [...Array(6).keys()].map((i) => double(352 + 8 * i)), [...Array(4).keys()].map((i) => double(104 + 8 * i)), view.getInt32(500, little)),
  };
}

function scaled(slope, inter) {
  return Number.isFinite(slope) && slope !== 0 && Number.isFinite(inter) ? { slope, inter } : { slope: 1, inter: 0 };
}

// The sform where its code is set, else the qform: as segpipe itself reads it.
function place(qform, sform, rows, quaternion, spacing, units) {
  const mm = UNIT_MM[units & 7] ?? 1;
  const told = sform > 0 ? [rows.slice(0, 4), rows.slice(4, 8), rows.slice(8, 12)] : turned(quaternion, spacing);
  return { affine: told.map((row) => row.map((value) => value * mm)), placed: sform > 0 || qform > 0 };
}

// nifti1.h, "method 2": a unit quaternion (b, c, d), offsets, spacings, and the sign of the third axis.
function turned([b, c, d, ...shift], [sign, ...sizes]) {
  const a = Math.sqrt(Math.max(0, 1 - b * b - c * c - d * d));
  const [x, y, z] = sizes.map((size, axis) => (Math.abs(size) || 1) * (axis === 2 && sign < 0 ? -1 : 1));
  return [
    [(a * a + b * b - c * c - d * d) * x, 2 * (b * c - a * d) * y, 2 * (b * d + a * c) * z, shift[0]],
    [2 * (b * c + a * d) * x, (a * a + c * c - b * b - d * d) * y, 2 * (c * d - a * b) * z, shift[1]],
    [2 * (b * d - a * c) * x, 2 * (c * d + a * b) * y, (a * a + d * d - b * b - c * c) * z, shift[2]],
  ];
}

/** The voxels of one volume in the file's own order and type: I fastest. Colours are one grey. */
export function voxelsOf(file, volume = 0) {
  const count = file.dims[0] * file.dims[1] * file.dims[2];
  const bytes = file.buffer.slice(file.offset + volume * count * file.width, file.offset + (volume + 1) * count * file.width);
  if (file.kind === COLOURS) {
    const rgb = new Uint8Array(bytes);
    return Uint8Array.from({ length: count }, (_, v) => 0.299 * rgb[3 * v] + 0.587 * rgb[3 * v + 1] + 0.114 * rgb[3 * v + 2]);
  }
  if (!file.little && file.width > 1) swap(new Uint8Array(bytes), file.width);
  const array = new KINDS[file.kind](bytes);
  return array instanceof BigInt64Array || array instanceof BigUint64Array ? Float64Array.from(array, Number) : array;
}

function swap(bytes, width) {
  for (let start = 0; start < bytes.length; start += width) bytes.subarray(start, start + width).reverse();
}

/** How the file's axes lie: {axes, flips}; RAS axis n is the file's axis `axes[n]`, backwards where `flips[n]`. */
export function orientation(affine) {
  const lengths = [0, 1, 2].map((axis) => Math.hypot(affine[0][axis], affine[1][axis], affine[2][axis]) || 1);
  const orders = [[0, 1, 2], [0, 2, 1], [1, 0, 2], [1, 2, 0], [2, 0, 1], [2, 1, 0]];
  const share = (order) => order.reduce((sum, axis, row) => sum + Math.abs(affine[row][axis]) / lengths[axis], 0);
  const axes = orders.reduce((best, order) => (share(order) > share(best) + 1e-9 ? order : best));
  return { axes, flips: axes.map((axis, row) => affine[row][axis] < 0) };
}

// For each RAS index the step and the start in the file's order.
function steps(dims, { axes, flips }) {
  const stride = [1, dims[0], dims[0] * dims[1]];
  const size = axes.map((axis) => dims[axis]);
  return {
    size,
    step: axes.map((axis, n) => (flips[n] ? -stride[axis] : stride[axis])),
    start: axes.reduce((sum, axis, n) => sum + (flips[n] ? stride[axis] * (size[n] - 1) : 0), 0),
  };
}

// `put(to RAS index, from file index)` for every voxel.
function walk(dims, turn, put) {
  const { size, step, start } = steps(dims, turn);
  let ras = 0;
  for (let z = 0; z < size[2]; z++) {
    for (let y = 0; y < size[1]; y++) {
      let file = start + z * step[2] + y * step[1];
      for (let x = 0; x < size[0]; x++, file += step[0]) put(ras++, file);
    }
  }
}

/** Voxels of the file's order in RAS order, and the sizes there. */
export function toRas(array, dims, turn) {
  const result = new array.constructor(array.length);
  walk(dims, turn, (ras, file) => { result[ras] = array[file]; });
  return { array: result, dims: steps(dims, turn).size };
}

/** The way back: voxels in RAS order, and the sizes of the file. */
export function fromRas(array, dims, turn) {
  const result = new array.constructor(array.length);
  walk(dims, turn, (ras, file) => { result[file] = array[ras]; });
  return result;
}

/** From indices in RAS order to mm. */
export function rasAffine(affine, dims, { axes, flips }) {
  return affine.map((row) => {
    const columns = axes.map((axis, n) => (flips[n] ? -row[axis] : row[axis]));
    return [...columns, row[3] + axes.reduce((sum, axis, n) => sum + (flips[n] ? row[axis] * (dims[axis] - 1) : 0), 0)];
  });
}

/** Where a voxel lies, in mm. */
export function world(affine, [i, j, k]) {
  return affine.map((row) => row[0] * i + row[1] * j + row[2] * k + row[3]);
}

/** The farthest that a corner of one grid lies from the same corner of another, in mm. */
export function apart(a, b, dims) {
  let most = 0;
  for (let corner = 0; corner < 8; corner++) {
    const voxel = dims.map((size, axis) => (corner >> axis) & 1 ? size - 1 : 0);
    const [p, q] = [world(a, voxel), world(b, voxel)];
    most = Math.max(most, Math.hypot(p[0] - q[0], p[1] - q[1], p[2] - q[2]));
  }
  return most;
}

/** The file with other voxels, every byte of its header as it was. `values` are in the file's own order. */
export function withVoxels(file, values) {
  const result = file.buffer.slice(0), view = new DataView(result);
  const whole = file.kind === 1024 || file.kind === 1280;
  if (file.little && !whole) {
    const bytes = new Uint8Array(new KINDS[file.kind](values).buffer);
    new Uint8Array(result, file.offset, bytes.length).set(bytes);
    return result;
  }
  const put = view[PUT[file.kind]].bind(view);
  values.forEach((value, v) => put(file.offset + v * file.width, whole ? BigInt(value) : value, file.little));
  return result;
}

/** A plain NIfTI-1 file for the viewer: RAS order, straight axes, its middle at the origin. float32, or uint8 and int16 as they are. */
export function straight(array, dims, spacing, slope = 1, inter = 0) {
  const kept = array instanceof Uint8Array || array instanceof Int16Array;
  const voxels = kept ? array : Float32Array.from(array);
  const result = new ArrayBuffer(HEADER_BYTES + voxels.byteLength), view = new DataView(result);
  view.setInt32(0, 348, true);
  [3, ...dims, 1, 1, 1, 1].forEach((size, i) => view.setInt16(40 + 2 * i, size, true));
  view.setInt16(70, voxels instanceof Uint8Array ? 2 : kept ? 4 : 16, true);
  view.setInt16(72, 8 * voxels.BYTES_PER_ELEMENT, true);
  [1, ...spacing].forEach((size, i) => view.setFloat32(76 + 4 * i, size, true));
  view.setFloat32(108, HEADER_BYTES, true);
  view.setFloat32(112, slope, true);
  view.setFloat32(116, inter, true);
  view.setUint8(123, 2);
  view.setInt16(254, 1, true);
  spacing.forEach((size, axis) => {
    view.setFloat32(280 + 16 * axis + 4 * axis, size, true);
    view.setFloat32(280 + 16 * axis + 12, (-size * (dims[axis] - 1)) / 2, true);
  });
  new Uint8Array(result, 344, 4).set([0x6e, 0x2b, 0x31, 0]);
  new Uint8Array(result, HEADER_BYTES).set(new Uint8Array(voxels.buffer, voxels.byteOffset, voxels.byteLength));
  return result;
}
