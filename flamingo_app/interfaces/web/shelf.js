// The conversations: {items: [{id, title}], current}. What is wanted goes back as {do, id, ...}.
const [list, search, file, note] = ["ul", "input[type=search]", "input[type=file]", ".note"].map((name) => element.querySelector(name));

function say(what) { props.value = what; trigger("submit"); }

// On a phone the list covers the chat: it is folded away at first, and once something was chosen.
const side = element.closest(".sidebar");
const isOpen = () => side.classList.contains("open");
function fold() {
  if (matchMedia("(max-width: 768px)").matches && isOpen()) side.querySelector(".toggle-button").click();
}
const opening = new MutationObserver(foldOnce);
function foldOnce() {
  if (!isOpen()) return;
  opening.disconnect();
  fold();
}
opening.observe(side, { attributes: true, attributeFilter: ["class"] });
foldOnce(); // where it is open already

function choose(what) { say(what); fold(); }

function small(label, title, act) {
  const made = Object.assign(document.createElement("button"), { type: "button", textContent: label, title });
  made.setAttribute("aria-label", title);
  made.addEventListener("click", act);
  return made;
}

function item({ id, title }, current) {
  const row = document.createElement("li");
  const name = Object.assign(document.createElement("button"), { type: "button", className: "name", textContent: title });
  name.addEventListener("click", () => choose({ do: "open", id }));
  if (id === current) name.setAttribute("aria-current", "true");
  const acts = document.createElement("span");
  acts.className = "acts";
  acts.append(
    small("✎", `Rename ${title}`, () => rename(row, id, title)),
    small("⤓", `Export ${title}`, () => { menu(row, id); }),
    small("×", `Delete ${title}`, () => sure(row, id, title)),
  );
  row.append(name, acts);
  return row;
}

function rename(row, id, title) {
  const field = Object.assign(document.createElement("input"), { value: title, maxLength: 200 });
  field.setAttribute("aria-label", "New title");
  field.addEventListener("keydown", (event) => {
    if (event.key === "Enter" && field.value.trim()) say({ do: "rename", id, title: field.value });
    if (event.key === "Escape") draw();
  });
  row.replaceChildren(field);
  field.focus();
  field.select();
}

function menu(row, id) {
  const links = [["json", "JSON"], ["zip", "Markdown and pictures"]].map(([form, label]) =>
    Object.assign(document.createElement("a"), { href: `conversations/${id}.${form}`, textContent: label, download: "" }));
  row.replaceChildren(...links, small("×", "Close", draw));
  links[0].focus();
}

function sure(row, id, title) {
  const yes = small("Delete", `Really delete ${title}`, () => say({ do: "delete", id }));
  row.replaceChildren(yes, small("Keep", "Keep it", draw));
  yes.focus();
}

let shown = { items: [], current: null };
function draw() { list.replaceChildren(...shown.items.map((each) => item(each, shown.current))); }

function take() {
  if (!props.value?.items) return;
  shown = props.value;
  draw();
  const address = new URL(location.href);
  if (shown.current) address.searchParams.set("c", shown.current);
  else address.searchParams.delete("c");
  if (address.href !== location.href) history.replaceState(history.state, "", address);
}

let typing;
search.addEventListener("input", () => {
  clearTimeout(typing);
  typing = setTimeout(() => say({ do: "search", words: search.value }), 250);
});
element.querySelector(".new").addEventListener("click", () => choose({ do: "new" }));
element.querySelector(".import").addEventListener("click", () => file.click());
file.addEventListener("change", async () => {
  const [given] = file.files;
  file.value = "";
  if (!given) return;
  note.textContent = "";
  try {
    choose({ do: "import", path: (await upload(given)).path });
  } catch (error) {
    note.textContent = `${given.name} could not be sent: ${error.message ?? error}`;
  }
});
watch("value", take);
take();
