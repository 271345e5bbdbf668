/** German. */

import type { Format } from "../format.js";
import type { Texts } from "./index.js";

export function german(format: Format): Texts {
  const files = (count: number): string => (count === 1 ? "1 Datei" : `${format.number(count)} Dateien`);
  return {
    title: "Mit dir geteilt",
    looking: "Der Raum wird gesucht …",
    connecting: "Verbindung zum Zuhause wird aufgebaut …",
    connectingDetail: "Die Dateien kommen direkt von dort, nicht aus einer Cloud.",

    shares: (home) => (home ? `${home} teilt mit dir` : "Mit dir geteilt"),
    files,
    expires: (when) => `Verfügbar bis ${when}`,
    expiresSoon: (when) => `Endet ${when}`,
    noExpiry: "Verfügbar, bis der Raum geschlossen wird",
    direct: "Direkt",
    directDetail: "Die Dateien gehen direkt vom Zuhause zu diesem Gerät.",
    relayed: "Über ein Relay",
    relayedDetail: "Ein Relay reicht die verschlüsselten Dateien weiter, weil kein direkter Weg gefunden wurde. Das kann langsamer sein.",
    empty: "In diesem Raum ist zurzeit nichts.",
    truncated: "Der Raum hat mehr Dateien, als diese Seite zeigt.",

    downloadAll: (size) => `Alles herunterladen · ${size}`,
    downloadOne: (size) => `Herunterladen · ${size}`,
    downloadSelected: (count, size) => `${files(count)} herunterladen · ${size}`,
    asZip: "Als ein ZIP-Archiv",
    selectAll: "Alle auswählen",
    selectNone: "Auswahl aufheben",
    select: (name) => `${name} auswählen`,
    download: (name) => `${name} herunterladen`,
    play: "Abspielen",
    view: "Ansehen",
    viewFile: (name) => `${name} ansehen`,
    unavailable: "Zurzeit nicht verfügbar",
    cannotPlay: {
      container: (name) => `Dieser Browser spielt keine ${name ? `${name}-Dateien` : "solchen Dateien"} ab. Lade sie stattdessen herunter.`,
      video: (name) => `Dieser Browser spielt kein ${name}-Video ab. Lade die Datei stattdessen herunter.`,
      audio: (name) => `Dieser Browser spielt keinen ${name}-Ton ab. Lade die Datei stattdessen herunter.`,
    },
    noStream: "Nur zum Herunterladen",
    close: "Schließen",
    previous: "Vorheriges",
    next: "Nächstes",
    loading: "Wird geladen …",
    cannotShow: "Dieser Browser kann die Datei nicht anzeigen. Lade sie stattdessen herunter.",
    noWorker:
      "Dieses Fenster erlaubt nicht, was zum Abspielen und für große Downloads nötig ist (Service Worker), wie manche privaten Fenster. Dateien bis 256 MB kannst du trotzdem herunterladen. Öffne den Link für alles andere in einem normalen Fenster.",

    transfers: "Downloads",
    starting: "Wird gestartet …",
    reconnecting: "Die Verbindung ist unterbrochen. Es geht von selbst weiter.",
    queue: (position, waiting) =>
      `Platz ${format.number(position)}${waiting > position ? ` von ${format.number(waiting)}` : ""} in der Warteschlange.`,
    queueSoon: (wait) => `Du bist in etwa ${wait} an der Reihe.`,
    queueUnknown: "Es beginnt von selbst, wenn du an der Reihe bist.",
    progress: (received, size) => `${received} von ${size}`,
    left: (wait) => `noch ${wait}`,
    done: (size) => `Fertig · ${size}`,
    cancelled: "Abgebrochen",
    cancel: (name) => `${name} abbrechen`,
    dismiss: (name) => `${name} aus der Liste entfernen`,
    keepOpen: "Lass diese Seite offen, bis die Downloads fertig sind.",
    mayClose: "Alles ist heruntergeladen. Du kannst diese Seite jetzt schließen.",
    problems: {
      not_begun: "Der Browser hat den Download nicht begonnen. Erlaube dieser Seite Downloads und versuche es noch einmal.",
      too_big_for_memory: "Dieses Fenster kann große Dateien nicht speichern, während sie ankommen. Öffne den Link in einem normalen Fenster.",
      changed: "Die Datei wurde geändert oder entfernt. Lade die Seite neu, um zu sehen, was jetzt da ist.",
      unavailable: "Das Zuhause kann diese Datei zurzeit nicht lesen. Versuche es später noch einmal.",
      other: "Der Download ist fehlgeschlagen. Versuche es noch einmal.",
    },

    passwordTitle: "Dieser Raum hat ein Passwort",
    passwordDetail: "Wer dir den Link geschickt hat, kennt es. Nur das Zuhause prüft es.",
    password: "Passwort",
    enter: "Öffnen",
    checking: "Wird geprüft …",
    wrongPassword: "Das ist nicht das Passwort. Versuche es noch einmal.",
    limited: (wait) => `Zu viele falsche Passwörter. Versuche es in etwa ${wait} noch einmal.`,

    spokenTitle: "Ohne den geheimen Teil des Links geöffnet",
    spoken:
      "Du hast einen gesprochenen Code eingegeben, oder das Ende des Links fehlt. Deshalb kann diese Seite nicht prüfen, ob das richtige Zuhause antwortet: Der Signalisierungsserver könnte sich dafür ausgeben. Nimm nach Möglichkeit den ganzen Link.",

    retrying: (wait) => `Nächster Versuch in ${wait}`,
    retryNow: "Jetzt versuchen",
    tryAgain: "Noch einmal versuchen",
    reload: "Seite neu laden",
    lostBanner: "Die Verbindung ist unterbrochen. Diese Seite verbindet sich von selbst wieder.",
    overBanner: "Der Raum ist jetzt geschlossen. Was du heruntergeladen hast, bleibt bei dir.",

    failures: {
      unreachable: ["Der Server antwortet nicht", "Prüfe deine Internetverbindung. Diese Seite versucht es weiter."],
      not_found: ["Diesen Raum gibt es nicht", "Prüfe, ob du den ganzen Link hast, oder bitte um einen neuen."],
      gone: ["Dieser Raum ist geschlossen", "Er ist abgelaufen oder wurde geschlossen. Bitte den Absender um einen neuen Link."],
      used_up: ["Dieser Raum ist aufgebraucht", "Er wurde so oft heruntergeladen wie erlaubt. Bitte den Absender um einen neuen Link."],
      rate_limited: ["Zu viele Versuche", "Warte ein wenig. Diese Seite versucht es von selbst wieder."],
      away: ["Das Zuhause ist nicht erreichbar", "Vielleicht ist es ausgeschaltet oder offline. Diese Seite versucht es weiter; du kannst sie offen lassen."],
      busy: ["Das Zuhause ist ausgelastet", "Es sind so viele Gäste verbunden, wie es bedienen kann. Diese Seite versucht es weiter."],
      no_path: [
        "Es kam keine Verbindung zum Zuhause zustande",
        "Dein Netz oder das des Zuhauses blockiert direkte Verbindungen. Versuche ein anderes Netz, zum Beispiel mobile Daten statt WLAN.",
      ],
      wrong_secret: [
        "Dieser Link stimmt nicht",
        "Sein letzter Teil gehört nicht zu diesem Raum, oder jemand ist zwischen dir und dem Zuhause. Kopiere den ganzen Link, oder bitte den Absender noch einmal darum.",
      ],
      password: ["Das Passwort fehlt", "Versuche es noch einmal und gib das Passwort ein."],
      version: ["Diese Seite ist zu alt oder zu neu", "Lade sie neu. Hilft das nicht, braucht das Zuhause oder der Server ein Update."],
      disconnected: ["Dein Besuch wurde beendet", "Frage den Absender, ob das ein Versehen war."],
      idle: ["Eine Weile ist nichts geschehen", "Diese Seite verbindet sich von selbst wieder."],
      lost: ["Die Verbindung ist unterbrochen", "Diese Seite verbindet sich von selbst wieder."],
      changed: ["Die Datei wurde geändert", "Lade die Seite neu, um zu sehen, was jetzt da ist."],
      unavailable: ["Das Zuhause kann nicht antworten", "Dort stimmt etwas nicht. Diese Seite versucht es von selbst wieder."],
      aborted: ["Beendet", "Versuche es noch einmal."],
      invalid: ["Etwas Unerwartetes ist angekommen", "Lade die Seite neu. Hilft das nicht, braucht das Zuhause oder der Server ein Update."],
    },

    obstacles: {
      insecure: [
        "Diese Adresse ist nicht verschlüsselt",
        "Browser erlauben direkte, verschlüsselte Verbindungen und große Downloads nur auf Seiten mit https. Öffne den Raum unter seiner https-Adresse, oder bitte den Absender darum.",
      ],
      bad_link: ["Dieser Link ist nicht vollständig", "Kopiere den ganzen Link bis zum letzten Zeichen, oder bitte den Absender noch einmal darum."],
      no_webrtc: [
        "Dieser Browser kann sich nicht direkt verbinden",
        "Er hat kein WebRTC, oder es ist abgeschaltet. Öffne den Link in einem aktuellen Firefox, Chrome, Edge oder Safari.",
      ],
    },
    openSecure: "https-Adresse öffnen",

    safeTitle: "Wie sicher ist das?",
    safe: [
      "Die Dateien gehen verschlüsselt vom Zuhause zu diesem Gerät. Weder der Signalisierungsserver noch ein Relay kann sie oder ihre Namen lesen.",
      "Der Teil des Links nach # beweist beiden Enden, dass sie miteinander sprechen. Er wird nie an einen Server gesendet. Wer den ganzen Link hat, kann den Raum öffnen.",
      "Diese Seite selbst kommt vom Signalisierungsserver. Du vertraust seinem Betreiber, dass er die echte liefert.",
      "Das Zuhause sieht die Netzadresse dieses Geräts, wie bei jeder direkten Verbindung.",
    ],
  };
}
