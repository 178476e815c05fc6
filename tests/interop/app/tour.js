/* A visit: pages in a frame, with all that belongs to them, forms, JSON and
 * uploads. Says `tour: ok N` or what went wrong. */
"use strict";

let steps = 0;

function check(ok, text) {
	if (!ok)
		throw new Error(text);
	steps++;
}

function frame(url) {
	return new Promise((resolve) => {
		const f = document.createElement("iframe");
		f.onload = () => {
			const text = f.contentDocument.body.textContent;
			f.remove();
			resolve(text);
		};
		f.src = url;
		document.body.append(f);
	});
}

async function post(url, body, headers, status) {
	const r = await fetch(url, { method: "POST", body, headers });
	check(r.status === status, `${url}: ${r.status}`);
	return r;
}

function bytes(n) {
	const b = new Uint8Array(n);
	for (let i = 0; i < n; i++)
		b[i] = (i * 167 + (i >> 3) * 13 + (i >> 11)) & 255;
	return b;
}

async function pages() {
	for (const [url, want] of [
		["/", "Teapot"], ["/item/1", "1"], ["/login", "Log in"],
		["/search?q=tea&page=1", "2 for tea"],
		["/search?q=" + encodeURIComponent("Cup & saucer"), "1 for"],
		["/search?q=" + encodeURIComponent("O'Brien"), "1 for"],
		["/search?q=" + encodeURIComponent("grüner Tee, 50 %"), "0 for"],
		["/search?q=teapot+for+two", "0 for"],
		["/comment", "Send"], ["/upload", "Send"], ["/account", "Who?"],
	])
		check((await frame(url)).includes(want), url);
}

async function forms() {
	const login = await post("/login", new URLSearchParams(
		{ user: "maeve", password: "Tr0ub4dor and 3 spoons" }), {}, 200);
	check(login.url.endsWith("/account"), login.url);
	check((await login.text()).includes("Welcome"), "the session");
	for (const text of [
		"It's good. I'd buy it again, and again!",
		"Fünf Sterne – schön & heiß, isn't it?",
		"Line one\nline two\n\n- a list\n- of things (really)",
		"See https://shop.example/item/1?x=2 for more.",
	])
		check((await (await post("/comment", new URLSearchParams(
			{ name: "Maeve O'Brien", text }), {}, 200)).text())
			.includes("Thanks"), text);
}

async function api() {
	check((await (await fetch("/api/items")).json()).length === 5, "items");
	await post("/api/items", JSON.stringify(
		{ name: "Kettle", price: 31.5, tags: ["steel", "1.7 l"],
		  note: "don't boil dry", size: { w: 20, h: 25 } }),
		{ "Content-Type": "application/json" }, 201);
}

async function uploads() {
	const png = await (await fetch("/logo.png")).blob();
	for (const [name, type, data] of [
		["logo.png", "image/png", png],
		["holiday.jpg", "image/jpeg", bytes(70000)],
		["notes.txt", "text/plain", "Milk, bread, tea.\n".repeat(40)],
		["report 2026.pdf", "application/pdf", bytes(9000)],
	]) {
		const form = new FormData();
		form.append("title", "My " + name);
		form.append("file", new Blob([data], { type }), name);
		const r = await post("/upload", form, {}, 200);
		const buf = await new Blob([data]).arrayBuffer();
		check((await r.json()).length === 1 && buf.byteLength > 0, name);
	}
}

(async () => {
	const said = document.getElementById("said");
	try {
		await pages();
		await forms();
		await api();
		await uploads();
		said.textContent = "tour: ok " + steps;
	} catch (e) {
		said.textContent = "tour: failed: " + e.message;
	}
})();
