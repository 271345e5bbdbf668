/** English. The other languages have the same keys. */

import type { Format } from "../format.js";

export function english(format: Format) {
  const files = (count: number): string => (count === 1 ? "1 file" : `${format.number(count)} files`);
  return {
    title: "Shared with you",
    looking: "Looking for the room…",
    connecting: "Connecting to the home…",
    connectingDetail: "The files come straight from there, not from a cloud.",

    shares: (home: string) => (home ? `${home} shares with you` : "Shared with you"),
    files,
    expires: (when: string) => `Available until ${when}`,
    expiresSoon: (when: string) => `Ends ${when}`,
    noExpiry: "Available until it is closed",
    direct: "Direct",
    directDetail: "The files travel straight between this device and the home.",
    relayed: "Relayed",
    relayedDetail: "A relay passes on the encrypted files, because no direct way was found. This may be slower.",
    empty: "There is nothing in this room at the moment.",
    truncated: "The room has more files than this page shows.",

    downloadAll: (size: string) => `Download all · ${size}`,
    downloadOne: (size: string) => `Download · ${size}`,
    downloadSelected: (count: number, size: string) => `Download ${files(count)} · ${size}`,
    asZip: "As one ZIP archive",
    selectAll: "Select all",
    selectNone: "Clear selection",
    select: (name: string) => `Select ${name}`,
    download: (name: string) => `Download ${name}`,
    play: "Play",
    view: "View",
    viewFile: (name: string) => `View ${name}`,
    unavailable: "Not available at the moment",
    cannotPlay: {
      container: (name: string) => `This browser does not play ${name || "such"} files. Download it instead.`,
      video: (name: string) => `This browser does not play ${name} video. Download it instead.`,
      audio: (name: string) => `This browser does not play ${name} sound. Download it instead.`,
    },
    noStream: "Only for download",
    close: "Close",
    previous: "Previous",
    next: "Next",
    loading: "Loading…",
    cannotShow: "This browser cannot show this file. Download it instead.",
    noWorker:
      "This window does not allow what playing and large downloads need (service workers), as some private windows do. Files of up to 256 MB can still be downloaded. Open the link in a normal window for everything else.",

    transfers: "Downloads",
    starting: "Starting…",
    reconnecting: "Waiting for the connection to come back. It goes on by itself.",
    queue: (position: number, waiting: number) =>
      `Number ${format.number(position)}${waiting > position ? ` of ${format.number(waiting)}` : ""} in the queue.`,
    queueSoon: (wait: string) => `Your turn in about ${wait}.`,
    queueUnknown: "It starts by itself when it is your turn.",
    progress: (received: string, size: string) => `${received} of ${size}`,
    left: (wait: string) => `${wait} left`,
    done: (size: string) => `Done · ${size}`,
    cancelled: "Cancelled",
    cancel: (name: string) => `Cancel ${name}`,
    dismiss: (name: string) => `Remove ${name} from the list`,
    keepOpen: "Keep this page open until the downloads are done.",
    mayClose: "Everything is downloaded. You may close this page now.",
    problems: {
      not_begun: "The browser did not start the download. Allow downloads for this page and try again.",
      too_big_for_memory: "This window cannot save large files while they arrive. Open the link in a normal window.",
      changed: "The file changed or was removed. Reload the page to see what is there now.",
      unavailable: "The home cannot read this file at the moment. Try again later.",
      other: "The download failed. Try again.",
    } as Record<string, string>,

    passwordTitle: "This room has a password",
    passwordDetail: "Whoever sent you the link knows it. Only the home checks it.",
    password: "Password",
    enter: "Enter",
    checking: "Checking…",
    wrongPassword: "That is not the password. Try again.",
    limited: (wait: string) => `Too many wrong passwords. Try again in about ${wait}.`,

    spokenTitle: "Opened without the secret part of the link",
    spoken:
      "You typed a spoken code, or the end of the link is missing. So this page cannot verify that the right home answers: the signalling server could pretend to be it. Use the whole link if you can.",

    retrying: (wait: string) => `Trying again in ${wait}`,
    retryNow: "Try now",
    tryAgain: "Try again",
    reload: "Reload the page",
    lostBanner: "The connection was lost. This page reconnects by itself.",
    overBanner: "The room is closed now. What you downloaded stays with you.",

    failures: {
      unreachable: ["The server does not answer", "Check your internet connection. This page keeps trying."],
      not_found: ["There is no such room", "Check that you have the whole link, or ask for a new one."],
      gone: ["This room is closed", "It has expired, or its owner closed it. Ask the sender for a new link."],
      used_up: ["This room is used up", "It was downloaded as often as its owner allowed. Ask the sender for a new link."],
      rate_limited: ["Too many attempts", "Wait a little. This page tries again by itself."],
      away: ["The home is not reachable", "It may be switched off or offline. This page keeps trying, so you can leave it open."],
      busy: ["The home is busy", "As many guests are connected as it can serve. This page keeps trying."],
      no_path: [
        "No connection to the home was possible",
        "Your network or that of the home blocks direct connections. Try another network, for example mobile data instead of Wi-Fi.",
      ],
      wrong_secret: [
        "This link is not right",
        "Its last part does not belong to this room, or somebody is between you and the home. Copy the whole link, or ask the sender for it again.",
      ],
      password: ["The password is missing", "Try again and enter the password."],
      version: ["This page is too old or too new", "Reload it. If that does not help, the home or the server needs an update."],
      disconnected: ["The owner ended your visit", "Ask the sender if this was a mistake."],
      idle: ["Nothing happened for a while", "This page connects again by itself."],
      lost: ["The connection was lost", "This page reconnects by itself."],
      changed: ["The file changed", "Reload the page to see what is there now."],
      unavailable: ["The home cannot answer", "Something is wrong there. This page tries again by itself."],
      aborted: ["Stopped", "Try again."],
      invalid: ["Something unexpected arrived", "Reload the page. If that does not help, the home or the server needs an update."],
    } as Record<string, readonly [title: string, next: string]>,

    obstacles: {
      insecure: [
        "This address is not encrypted",
        "Browsers allow direct, encrypted connections and downloads of large files only on pages with https. Open the room at its https address, or ask the sender for that.",
      ],
      bad_link: ["This link is not complete", "Copy the whole link, up to its last character, or ask the sender for it again."],
      no_webrtc: [
        "This browser cannot connect directly",
        "It has no WebRTC, or it is switched off. Open the link in a current Firefox, Chrome, Edge or Safari.",
      ],
    },
    openSecure: "Open the https address",

    safeTitle: "How safe is this?",
    safe: [
      "The files travel encrypted from the home to this device. Neither the signalling server nor a relay can read them or their names.",
      "The part of the link after # proves to both ends that they talk to each other. It is never sent to a server. Whoever has the whole link can open the room.",
      "This page itself comes from the signalling server. You trust its operator to deliver the real one.",
      "The home sees the network address of this device, as with any direct connection.",
    ],
  };
}
