# The page that shows what came out.
rule report:
    input:
        lambda wildcards: RUN.inputs(f"results/report/{wildcards.key}.html"),
    output:
        "results/report/{key}.html",
    log:
        "logs/report/{key}.log",
    threads: 1
    shell:
        "{RUN.command} {output} > {log} 2>&1"
