"use strict";
// <clip-player source reconstruction edit fps>: clips that play together, and the edit wiped over the source.

(() => {
  const CLIPS = { source: "Source", reconstruction: "Reconstruction", edit: "Edit" };
  const SPEEDS = [0.1, 0.25, 0.5, 1, 2];
  const SMALL = 256; // pixels: narrower clips are enlarged without smoothing, unless that is asked for
  const NEAR = 0.01; // seconds by which clips may be apart
  const FAR = 0.15; // seconds from which on a clip jumps to the others, instead of hurrying

  const STYLE = `
    :host { display: block; color: var(--body-text-color, CanvasText); font: inherit; }
    :host, button, select { --line: var(--border-color-primary, color-mix(in srgb, currentColor 30%, transparent)); }
    .stage { position: relative; display: grid; gap: .75rem; border-radius: .4rem;
             grid-template-columns: repeat(auto-fit, minmax(min(100%, 9rem), 1fr)); }
    figure { margin: 0; min-width: 0; }
    figcaption { font-size: .9em; padding-bottom: .25rem; }
    video { display: block; width: 100%; max-height: 70vh; object-fit: contain; border-radius: .3rem; }
    .sharp video { image-rendering: pixelated; }
    .wipe { grid-template-columns: minmax(0, min(40rem, 70vh * var(--proportion, 1))); justify-content: center; touch-action: pan-y; cursor: ew-resize; }
    .wipe figure { grid-area: 1 / 1; }
    .wipe [data-clip=reconstruction] { display: none; }
    .wipe [data-clip=edit] figcaption { text-align: right; }
    .handle { display: none; position: absolute; bottom: 0; width: 2.75rem; margin-left: -1.375rem; touch-action: pan-y;
              cursor: ew-resize; outline-offset: -2px; }
    .wipe .handle { display: block; }
    .handle::before { content: ""; position: absolute; left: calc(50% - 1px); width: 2px; height: 100%;
                      background: #fff; box-shadow: 0 0 0 1px #000a; }
    .handle::after { content: "\\21d4"; position: absolute; top: calc(50% - .9rem); left: calc(50% - .9rem); width: 1.8rem;
                     height: 1.8rem; border-radius: 50%; background: #fff; color: #000; text-align: center;
                     line-height: 1.8rem; box-shadow: 0 0 0 1px #000a; }
    .bar { display: flex; flex-wrap: wrap; align-items: center; gap: .5rem .75rem; padding-top: .6rem; }
    button, select { font: inherit; color: inherit; background: var(--button-secondary-background-fill, transparent);
                     border: 1px solid var(--line); border-radius: .4rem; padding: .3rem .7rem; min-height: 2.25rem;
                     cursor: pointer; }
    option { color: CanvasText; background: Canvas; }
    button[aria-pressed=true] { border-color: currentColor; box-shadow: inset 0 0 0 1px currentColor; }
    .play { min-width: 5rem; }
    .seek { flex: 1 1 10rem; accent-color: var(--color-accent, auto); }
    .where { font-variant-numeric: tabular-nums; min-width: 7.5em; }
    :focus-visible { outline: 2px solid var(--color-accent, currentColor); outline-offset: 2px; }
    .failed::after { content: " can't be played"; color: var(--error-text-color, #c00); }
    [hidden] { display: none !important; }`;

  class ClipPlayer extends HTMLElement {
    static observedAttributes = [...Object.keys(CLIPS), "fps"];

    #videos = []; // the first leads
    #playing = false;
    #parts = {};
    #wiped = 50; // percent of the width from which on the edit is seen
    #pixels = null; // whether pixels are kept, once it was said

    constructor() {
      super();
      const root = this.attachShadow({ mode: "open" });
      const make = (tag, properties, ...children) => {
        const element = Object.assign(document.createElement(tag), properties);
        element.append(...children);
        return element;
      };
      const toggle = (name, pressed, act) => {
        const button = make("button", { type: "button", textContent: name });
        button.setAttribute("aria-pressed", pressed);
        button.addEventListener("click", () => {
          const now = button.getAttribute("aria-pressed") !== "true";
          button.setAttribute("aria-pressed", now);
          act(now);
        });
        return button;
      };
      const p = this.#parts;
      p.handle = make("div", { className: "handle", tabIndex: 0, role: "slider", ariaLabel: "Wipe between source and edit" });
      p.handle.setAttribute("aria-valuemin", 0);
      p.handle.setAttribute("aria-valuemax", 100);
      p.stage = make("div", { className: "stage", tabIndex: 0, role: "group" }, p.handle);
      p.stage.ariaLabel = "Clips. Space plays and pauses, the arrow keys go to the frame before and after";
      p.play = make("button", { type: "button", className: "play", textContent: "Play" });
      p.seek = make("input", { type: "range", className: "seek", min: 0, max: 0, value: 0, ariaLabel: "Frame" });
      p.where = make("span", { className: "where", ariaHidden: "true" });
      p.speed = make("select", { className: "speed", ariaLabel: "Speed" });
      p.speed.append(...SPEEDS.map((speed) => make("option", { value: speed, textContent: `${speed}\u00d7` })));
      p.speed.value = 1;
      p.loop = toggle("Loop", true, () => {});
      p.wipe = toggle("Wipe", false, () => this.#arrange());
      p.sharp = toggle("Pixels", false, (on) => { this.#pixels = on; this.#arrange(); });
      p.sharp.title = "Enlarge without smoothing";
      p.wipe.title = "The edit over the source, with a handle";
      const bar = make("div", { className: "bar" }, p.play, p.seek, p.where, p.speed, p.loop, p.wipe, p.sharp);
      root.append(make("style", { textContent: STYLE }), p.stage, bar);

      p.play.addEventListener("click", () => this.#toggle());
      p.seek.addEventListener("input", () => this.#goTo(Number(p.seek.value)));
      p.speed.addEventListener("change", () => this.#atSpeed());
      root.addEventListener("keydown", (event) => this.#onKey(event));
      for (const name of ["pointerdown", "pointermove"]) p.stage.addEventListener(name, (event) => this.#onPointer(event));
      new ResizeObserver(() => this.#arrange()).observe(p.stage);
    }

    connectedCallback() { this.#build(); }
    disconnectedCallback() { this.pause(); }
    attributeChangedCallback(name, before, now) { if (this.isConnected && before !== now) this.#build(); }

    /** The elements that play, the leading one first. */
    get videos() { return [...this.#videos]; }
    get #fps() { return Number(this.getAttribute("fps")) || 8; }
    get #count() { return Math.max(1, Math.round((this.#videos[0]?.duration || 0) * this.#fps)); }
    get #frame() { return Math.min(this.#count - 1, Math.floor(this.#videos[0].currentTime * this.#fps + 1e-3)); }

    play() {
      if (!this.#videos.length) return;
      this.#playing = true;
      this.#parts.play.textContent = "Pause";
      if (this.#frame === this.#count - 1) this.#toStart();
      this.#atSpeed();
      for (const video of this.#videos) video.play().catch(() => {}); // as one that can't be loaded: the others go on
      requestAnimationFrame(() => this.#tick());
    }

    pause() {
      this.#stop();
      if (this.#videos.length) this.#goTo(this.#frame);
    }

    #toggle() {
      if (this.#playing) this.pause();
      else this.play();
    }

    #stop() {
      this.#playing = false;
      this.#parts.play.textContent = "Play";
      for (const video of this.#videos) video.pause();
    }

    #build() {
      this.#stop();
      for (const figure of this.#parts.stage.querySelectorAll("figure")) figure.remove();
      this.#videos = [];
      for (const [name, title] of Object.entries(CLIPS)) {
        const url = this.getAttribute(name);
        if (!url) continue;
        const video = Object.assign(document.createElement("video"), { muted: true, playsInline: true, preload: "auto" });
        const caption = Object.assign(document.createElement("figcaption"), { textContent: title });
        const figure = document.createElement("figure");
        figure.dataset.clip = name;
        video.ariaLabel = title;
        video.addEventListener("loadedmetadata", () => { this.#arrange(); this.#show(); });
        video.addEventListener("error", () => caption.classList.add("failed"));
        if (!this.#videos.length) video.addEventListener("ended", () => this.#onEnd());
        video.src = url;
        figure.append(caption, video);
        this.#parts.stage.insertBefore(figure, this.#parts.handle);
        this.#videos.push(video);
      }
      this.#arrange();
      this.#show();
    }

    #onEnd() {
      if (!this.#playing) return;
      if (this.#parts.loop.getAttribute("aria-pressed") !== "true") return this.pause();
      this.#toStart();
      for (const video of this.#videos) video.play().catch(() => {});
    }

    #toStart() { for (const video of this.#videos) video.currentTime = 0; }

    #goTo(frame) {
      if (this.#playing) this.#stop();
      // Into the middle of the frame: at its border a player may show the one before.
      const time = (Math.max(0, Math.min(this.#count - 1, frame)) + 0.5) / this.#fps;
      for (const video of this.#videos) video.currentTime = time;
      this.#show();
    }

    #atSpeed() { for (const video of this.#videos) video.playbackRate = Number(this.#parts.speed.value); }

    /** While they play: whoever is apart from the first hurries or waits; on a long way it jumps. */
    #tick() {
      if (!this.#playing) return;
      const [first, ...others] = this.#videos, speed = Number(this.#parts.speed.value);
      for (const video of others) {
        const apart = first.currentTime - video.currentTime;
        if (first.ended || first.seeking || video.seeking || !video.duration) continue;
        if (Math.abs(apart) > FAR) video.currentTime = Math.min(first.currentTime, video.duration);
        video.playbackRate = Math.abs(apart) > NEAR ? speed * (1 + Math.max(-0.5, Math.min(0.5, 5 * apart))) : speed;
      }
      this.#show();
      requestAnimationFrame(() => this.#tick());
    }

    #show() {
      const { seek, where } = this.#parts;
      if (!this.#videos.length) return;
      const frame = this.#frame, text = `frame ${frame + 1} of ${this.#count}`;
      seek.max = this.#count - 1;
      seek.value = frame;
      seek.setAttribute("aria-valuetext", text);
      where.textContent = text;
    }

    #arrange() {
      const { stage, handle, wipe, sharp } = this.#parts;
      const edit = stage.querySelector("[data-clip=edit] video");
      const wiping = Boolean(edit) && wipe.getAttribute("aria-pressed") === "true";
      wipe.disabled = !edit;
      const width = this.#videos[0]?.videoWidth;
      if (width) stage.style.setProperty("--proportion", width / this.#videos[0].videoHeight);
      const pixels = this.#pixels ?? (width > 0 && width <= SMALL);
      sharp.setAttribute("aria-pressed", pixels);
      stage.classList.toggle("sharp", pixels);
      stage.classList.toggle("wipe", wiping);
      if (!edit) return;
      edit.style.clipPath = wiping ? `inset(0 0 0 ${this.#wiped}%)` : "";
      handle.style.left = `${edit.offsetLeft + (edit.offsetWidth * this.#wiped) / 100}px`;
      handle.style.top = `${edit.offsetTop}px`;
      handle.setAttribute("aria-valuenow", Math.round(this.#wiped));
      handle.setAttribute("aria-valuetext", `${Math.round(this.#wiped)} percent source`);
    }

    #wipeTo(percent) {
      this.#wiped = Math.max(0, Math.min(100, percent));
      this.#arrange();
    }

    #onPointer(event) {
      const { stage, handle } = this.#parts;
      if (!stage.classList.contains("wipe") || event.button > 0) return;
      if (event.type === "pointerdown") {
        stage.setPointerCapture(event.pointerId);
        event.preventDefault();
        handle.focus({ preventScroll: true });
      } else if (!stage.hasPointerCapture(event.pointerId)) return;
      const box = stage.querySelector("[data-clip=edit] video").getBoundingClientRect();
      this.#wipeTo((100 * (event.clientX - box.left)) / box.width);
    }

    #onKey(event) {
      const act = this.#meant(event);
      if (!act) return;
      event.preventDefault();
      act();
    }

    /** What a key does, or null. */
    #meant({ key, target, shiftKey, altKey, ctrlKey, metaKey }) {
      const { handle, speed, seek } = this.#parts;
      if (altKey || ctrlKey || metaKey || target === speed || !this.#videos.length) return null;
      if (key === " " && target.tagName !== "BUTTON") return () => this.#toggle();
      const sideways = { ArrowLeft: -1, ArrowRight: 1 }[key];
      const step = sideways ?? { ArrowDown: -1, ArrowUp: 1 }[key];
      const end = { Home: 0, End: 1 }[key];
      if (target === handle) {
        if (step) return () => this.#wipeTo(this.#wiped + step * (shiftKey ? 10 : 1));
        return end === undefined ? null : () => this.#wipeTo(100 * end);
      }
      if (sideways || (step && target === seek)) return () => this.#goTo(this.#frame + step);
      return end === undefined ? null : () => this.#goTo(end * (this.#count - 1));
    }
  }

  if (!customElements.get("clip-player")) customElements.define("clip-player", ClipPlayer);
})();
