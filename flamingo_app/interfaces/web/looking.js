// What each word looked at: {words: [text], pictures: [url], maps: [word][picture][row][column], from 0 to 1}.
const [line, pictures] = [".line", ".pictures"].map((name) => element.querySelector(name));

function lay(canvas, map) {
  const pen = canvas.getContext("2d");
  [canvas.width, canvas.height] = [map[0].length, map.length];
  map.forEach((row, y) => row.forEach((heat, x) => {
    pen.fillStyle = `rgba(255, 30, 120, ${0.8 * heat})`;
    pen.fillRect(x, y, 1, 1);
  }));
}

function take() {
  const { words = [], pictures: urls = [], maps = [], fit } = props.value ?? {};
  pictures.replaceChildren(...urls.map((url) => {
    const frame = Object.assign(document.createElement("figure"), { className: `frame ${fit ?? ""}` });
    frame.append(Object.assign(document.createElement("img"), { src: url, alt: "A picture the answer looked at" }), document.createElement("canvas"));
    return frame;
  }));
  const frames = [...pictures.querySelectorAll("canvas")];
  const show = (index) => {
    frames.forEach((canvas, picture) => lay(canvas, maps[index][picture]));
    line.querySelectorAll("button").forEach((word, at) => word.setAttribute("aria-pressed", String(at === index)));
  };
  line.replaceChildren(...words.map((word, index) => {
    const made = Object.assign(document.createElement("button"), { type: "button", textContent: word });
    for (const event of ["mouseenter", "focus", "click"]) made.addEventListener(event, () => show(index));
    return made;
  }));
  if (words.length) show(0);
}
watch("value", take);
take();
