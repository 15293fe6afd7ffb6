// The chat. A turn is {number, said: [{words} | {picture: url}], answer, status}; what somebody typed is only ever text.
// In an empty one stand the example conversations, {title, faces: [url]}; a click has one asked message by message.
const [log, talks] = [".history", ".talks"].map((name) => element.querySelector(name));
const notes = { asked: "No answer: it was interrupted. Retry asks again.", stopped: "stopped", length: "cut at its longest" };

function button(label, act, title) {
  const made = Object.assign(document.createElement("button"), { type: "button", textContent: label, title: title ?? label });
  made.addEventListener("click", act);
  return made;
}

function say(what) { props.value = what; trigger("submit"); }

function bubble(role, parts, buttons) {
  const made = document.createElement("div");
  made.className = `bubble ${role}`;
  made.dataset.testid = role;
  made.append(...parts);
  const bar = document.createElement("div");
  bar.className = "acts";
  bar.append(...buttons);
  const row = document.createElement("div");
  row.className = `row ${role}`;
  row.append(made, bar);
  return row;
}

function part(piece) {
  if ("words" in piece) return Object.assign(document.createElement("span"), { className: "words", textContent: piece.words });
  return Object.assign(document.createElement("img"), { src: piece.picture, alt: "A picture of this chat", loading: "lazy" });
}

function turn({ number, said, answer, status, live }) {
  const rows = [bubble("user", said.map(part), live ? [] : [
    button("Edit", () => say({ do: "edit", turn: number }), "Change this message and send it again"),
    button("Branch", () => say({ do: "branch", turn: number }), "Begin another conversation with everything up to here"),
  ])];
  if (answer !== null) {
    const words = Object.assign(document.createElement("span"), { className: "words", textContent: answer });
    rows.push(bubble("bot", [words], live ? [] : [
      button("Copy", () => navigator.clipboard?.writeText(answer)),
      button("Look", () => say({ do: "look", turn: number }), "See which parts of the pictures each word looked at"),
    ]));
  }
  if (!live && notes[status]) rows.push(Object.assign(document.createElement("p"), { className: "status", textContent: notes[status] }));
  return rows;
}

talks.append(...props.talks.map(({ title, faces }, talk) => {
  const made = Object.assign(document.createElement("button"), { type: "button" });
  made.append(...faces.map((src) => Object.assign(document.createElement("img"), { src, alt: "" })), title);
  made.addEventListener("click", () => { props.value = { do: "play", talk }; trigger("select"); });
  return made;
}));

let drawn = []; // what stands there, so that a growing answer redraws its own turn alone
function draw() {
  const turns = Array.isArray(props.value) ? props.value : props.value?.do ? null : [];
  if (!turns) return;
  const near = log.scrollHeight - log.scrollTop - log.clientHeight < 80;
  turns.forEach((each, index) => {
    const spelled = JSON.stringify(each);
    if (drawn[index] === spelled) return;
    const before = drawn[index] === undefined ? null : log.children[index];
    const box = document.createElement("div");
    box.className = "turn";
    box.append(...turn(each));
    if (before) {
      // A picture that stands there stays: it need not be fetched again for each word.
      const old = [...before.querySelectorAll("img")], fresh = [...box.querySelectorAll("img")];
      if (old.length === fresh.length && old.every((image, i) => image.src === fresh[i].src)) fresh.forEach((image, i) => image.replaceWith(old[i]));
      before.replaceWith(box);
    } else log.append(box);
    drawn[index] = spelled;
  });
  while (log.children.length > turns.length) log.lastChild.remove();
  drawn.length = turns.length;
  if (near) log.scrollTop = log.scrollHeight;
}
watch("value", draw);
draw();
