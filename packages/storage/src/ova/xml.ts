/** XML as OVF uses it: elements by their local names, attributes, texts. */

import { XMLParser } from "fast-xml-parser";

/** An element: its text, its attributes with "@", its children in order by their names. */
export class Element {
  readonly #node: unknown;

  constructor(node: unknown) {
    this.#node = node;
  }

  static parse(text: string): Element {
    // A document type could define entities, which OVF has no use for.
    if (/<!(DOCTYPE|ENTITY)/i.test(text)) throw new Error("it has a document type");
    const parser = new XMLParser({
      ignoreAttributes: false,
      attributeNamePrefix: "@",
      removeNSPrefix: true,
      parseTagValue: false,
      parseAttributeValue: false,
      isArray: (_name, _path, _leaf, isAttribute) => !isAttribute,
    });
    return new Element(parser.parse(text, true));
  }

  get text(): string {
    if (typeof this.#node === "string") return this.#node.trim();
    const text = this.#property("#text");
    return typeof text === "string" ? text.trim() : "";
  }

  attribute(name: string): string | undefined {
    const value = this.#property(`@${name}`);
    return typeof value === "string" ? value : undefined;
  }

  children(name: string): Element[] {
    const found = this.#property(name);
    return Array.isArray(found) ? found.map((node) => new Element(node)) : [];
  }

  child(name: string): Element | undefined {
    return this.children(name)[0];
  }

  #property(name: string): unknown {
    const node = this.#node;
    return typeof node === "object" && node !== null && Object.hasOwn(node, name) ? Reflect.get(node, name) : undefined;
  }
}
