;; Copyright 2024 The Authors.
(ns example.store
  "Keeps things by key."
  (:require [clojure.string :as str]
            [clojure.java.io :as io]))

(def limit 10)

(defprotocol Source
  (read-entry [this key] "Reads one entry."))

(defrecord Store [path entries]
  Source
  (read-entry [this key]
    (get entries key)))

;; Loads lines.
(defn- load-lines
  [path]
  (with-open [file (io/reader path)]
    (doall (line-seq file))))

(defn open
  "Opens a store."
  [path]
  (let [lines (load-lines path)]
    (->Store path (zipmap lines lines))))

(defmulti show :kind)

(defmethod show :entry
  [entry]
  (str (:key entry)))

(defmacro locked
  [& body]
  `(locking ~'lock ~@body))

(deftest unknown-key
  (is (nil? (read-entry (open "x") "a"))))
