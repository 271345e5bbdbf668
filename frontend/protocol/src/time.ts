/** Waiting, with a limit. */

import { RoomError } from "./errors.js";

/** Returns what a promise resolves to, or throws `otherwise` after so many milliseconds. */
export async function within<T>(milliseconds: number, promise: Promise<T>, otherwise: RoomError): Promise<T> {
  let deadline: ReturnType<typeof setTimeout> | undefined;
  try {
    return await Promise.race([
      promise,
      new Promise<never>((_, reject) => {
        deadline = setTimeout(() => reject(otherwise), milliseconds);
      }),
    ]);
  } finally {
    clearTimeout(deadline);
  }
}

/** Returns what a promise resolves to. Throws a RoomError "aborted" once the signal is aborted. */
export async function unlessAborted<T>(promise: Promise<T>, signal: AbortSignal | undefined): Promise<T> {
  if (!signal) return promise;
  // Nobody else may be there to learn of its failure.
  promise.catch(() => undefined);
  let stop: (() => void) | undefined;
  try {
    return await Promise.race([
      promise,
      new Promise<never>((_, reject) => {
        stop = () => reject(new RoomError("aborted"));
        if (signal.aborted) stop();
        signal.addEventListener("abort", stop);
      }),
    ]);
  } finally {
    if (stop) signal.removeEventListener("abort", stop);
  }
}

/** Waits. Throws a RoomError "aborted" once the signal is aborted. */
export async function sleep(milliseconds: number, signal?: AbortSignal): Promise<void> {
  let timer: ReturnType<typeof setTimeout> | undefined;
  try {
    await unlessAborted(new Promise<void>((resolve) => (timer = setTimeout(resolve, milliseconds))), signal);
  } finally {
    clearTimeout(timer);
  }
}
