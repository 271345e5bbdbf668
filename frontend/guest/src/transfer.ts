/** One download: how far it is, how fast, and how it ended. */

/** Milliseconds that the rate is measured over. */
const RATE_WINDOW = 5_000;

export type TransferState = "starting" | "running" | "done" | "failed" | "cancelled";

/** Measures bytes per second over the last seconds. */
export class RateMeter {
  readonly #samples: [at: number, bytes: number][] = [];
  #begun: number | null = null;

  add(bytes: number, now: number): void {
    this.#begun ??= now;
    this.#samples.push([now, bytes]);
    this.#drop(now);
  }

  rate(now: number): number {
    this.#drop(now);
    if (this.#begun === null) return 0;
    const bytes = this.#samples.reduce((sum, [, each]) => sum + each, 0);
    return (bytes * 1000) / Math.min(Math.max(now - this.#begun, 500), RATE_WINDOW);
  }

  #drop(now: number): void {
    while (this.#samples.length > 0 && this.#samples[0]![0] < now - RATE_WINDOW) this.#samples.shift();
  }
}

export class Transfer {
  readonly name: string;
  readonly size: number;
  state: TransferState = "starting";
  /** Bytes that the browser took. */
  received = 0;
  problem: unknown = null;
  /** Gives the download up. */
  cancel: () => void = () => undefined;
  readonly #meter = new RateMeter();

  constructor(name: string, size: number) {
    this.name = name;
    this.size = size;
  }

  get isActive(): boolean {
    return this.state === "starting" || this.state === "running";
  }

  get share(): number {
    return this.size > 0 ? Math.min(this.received / this.size, 1) : this.state === "done" ? 1 : 0;
  }

  took(bytes: number, now: number): void {
    this.state = "running";
    this.received += bytes;
    this.#meter.add(bytes, now);
  }

  /** Returns bytes per second. */
  rate(now: number): number {
    return this.state === "running" ? this.#meter.rate(now) : 0;
  }

  /** Returns the seconds that are left at the present rate, null if nothing arrives. */
  secondsLeft(now: number): number | null {
    const rate = this.rate(now);
    return rate > 0 ? (this.size - this.received) / rate : null;
  }

  end(problem: unknown): void {
    if (!this.isActive) return;
    this.problem = problem;
    this.state = problem === null ? "done" : problem === "cancelled" ? "cancelled" : "failed";
  }
}
