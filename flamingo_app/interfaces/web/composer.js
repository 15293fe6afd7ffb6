// The message box. Words are text nodes and pictures are chips between them, all children of one editable sheet.
const [sheet, note, files, camera, video, shoot, take] = [".sheet", ".note", "input", ".camera", "video", ".shoot", ".take"].map((name) => element.querySelector(name));
const uploads = new Set();
let caret = null; // where the cursor last stood in the sheet
let dragged = null; // the chip that is being moved

const say = (words) => { note.textContent = words; };

function makeChip(source) {
  const chip = document.createElement("span");
  chip.className = "chip";
  chip.contentEditable = "false";
  chip.draggable = true;
  const image = Object.assign(document.createElement("img"), { src: source, alt: "picture", draggable: false });
  const remove = Object.assign(document.createElement("button"), { type: "button", textContent: "×" });
  remove.setAttribute("aria-label", "Remove picture");
  remove.addEventListener("click", () => { chip.remove(); sheet.focus(); });
  chip.addEventListener("dragstart", () => { dragged = chip; });
  chip.addEventListener("dragend", () => { dragged = null; });
  chip.append(image, remove);
  return chip;
}

function insert(chip) {
  const range = caret && sheet.contains(caret.startContainer) ? caret : document.createRange();
  if (range !== caret) { range.selectNodeContents(sheet); range.collapse(false); }
  range.deleteContents();
  range.insertNode(chip);
  range.setStartAfter(chip);
  range.collapse(true);
  caret = range;
  sheet.focus();
  getSelection().removeAllRanges();
  getSelection().addRange(range);
}

function addPicture(file) {
  say("");
  if (!file.type.startsWith("image/")) return say(`expected a picture; got ${file.name}; choose a picture file`);
  const most = props.max_bytes / 2 ** 20;
  if (file.size > props.max_bytes) {
    return say(`expected a picture of at most ${most} MB; got ${file.name} of ${Math.ceil(file.size / 2 ** 20)} MB; make it smaller`);
  }
  const chip = makeChip(URL.createObjectURL(file));
  chip.classList.add("uploading");
  insert(chip);
  const arrival = upload(file)
    .then(({ path }) => { chip.dataset.path = path; chip.classList.remove("uploading"); })
    .catch((error) => { chip.remove(); say(`${file.name} could not be sent: ${error.message ?? error}`); })
    .finally(() => uploads.delete(arrival));
  uploads.add(arrival);
}

function read(node, parts = []) {
  for (const child of node.childNodes) {
    if (child.dataset?.path) parts.push({ picture: child.dataset.path });
    else if (child.nodeType === Node.TEXT_NODE || child.tagName === "BR") {
      const words = child.tagName === "BR" ? "\n" : child.textContent;
      const last = parts.at(-1);
      if (last && "words" in last) last.words += words;
      else parts.push({ words });
    } else if (!child.classList.contains("chip")) read(child, parts);
  }
  return parts;
}

function write(parts) {
  sheet.replaceChildren(...(Array.isArray(parts) ? parts : []).map((part) => {
    if ("words" in part) return document.createTextNode(part.words);
    const chip = makeChip(part.picture.url);
    chip.dataset.path = part.picture.path;
    return chip;
  }));
  caret = null;
  say("");
}

async function send() {
  await Promise.all(uploads);
  if (document.getElementById("stop")) return; // an answer is still being given
  props.value = read(sheet);
  trigger("submit");
}

async function openCamera() {
  say("");
  try {
    video.srcObject = await navigator.mediaDevices.getUserMedia({ video: { facingMode: "environment" } });
  } catch (error) {
    return say(`expected a camera; got ${error.name}; allow it for this page, or add a file`);
  }
  take.disabled = true;
  camera.hidden = false;
}

function closeCamera() {
  for (const track of video.srcObject?.getTracks() ?? []) track.stop();
  video.srcObject = null;
  camera.hidden = true;
  sheet.focus();
}

function takePicture() {
  const canvas = Object.assign(document.createElement("canvas"), { width: video.videoWidth, height: video.videoHeight });
  canvas.getContext("2d").drawImage(video, 0, 0);
  canvas.toBlob((blob) => { addPicture(new File([blob], "camera.jpg", { type: "image/jpeg" })); }, "image/jpeg", 0.92);
  closeCamera();
}

function placeCaret(event) {
  const spot = document.caretPositionFromPoint?.(event.clientX, event.clientY);
  const range = spot ? document.createRange() : document.caretRangeFromPoint?.(event.clientX, event.clientY);
  if (spot) range.setStart(spot.offsetNode, spot.offset);
  caret = range ?? null;
}

document.addEventListener("selectionchange", () => {
  const selection = getSelection();
  if (selection.rangeCount && sheet.contains(selection.anchorNode)) caret = selection.getRangeAt(0).cloneRange();
});
sheet.addEventListener("keydown", (event) => {
  if (event.key !== "Enter" || event.shiftKey || event.isComposing) return;
  event.preventDefault();
  send();
});
sheet.addEventListener("paste", (event) => {
  if (!event.clipboardData.files.length) return;
  event.preventDefault();
  [...event.clipboardData.files].forEach(addPicture);
});
element.addEventListener("dragover", (event) => event.preventDefault());
element.addEventListener("drop", (event) => {
  if (!dragged && !event.dataTransfer.files.length) return;
  event.preventDefault();
  placeCaret(event);
  if (dragged) insert(dragged);
  [...event.dataTransfer.files].forEach(addPicture);
});
element.addEventListener("picture", (event) => addPicture(event.detail)); // from the example pictures
element.querySelector(".add").addEventListener("click", () => files.click());
element.querySelector(".send").addEventListener("click", send);
shoot.hidden = !navigator.mediaDevices; // which browsers give to pages of this machine and those of https alone
shoot.addEventListener("click", openCamera);
take.addEventListener("click", takePicture);
video.addEventListener("playing", () => { take.disabled = false; take.focus(); });
camera.addEventListener("keydown", (event) => { if (event.key === "Escape") closeCamera(); });
element.querySelector(".dark").addEventListener("click", closeCamera);
files.addEventListener("change", () => { [...files.files].forEach(addPicture); files.value = ""; });
watch("value", () => write(props.value));
